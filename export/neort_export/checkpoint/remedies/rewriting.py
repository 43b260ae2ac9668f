"""Wrappers that training leaves in the names of tensors, and the line of Python that takes them out again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

__all__ = ["PEFT", "Renaming", "rewrite_command"]

PEFT = "a peft model whose adapter is not merged"
WRAPPERS = {  # what stands between the names of modules, and whose it is
    "_orig_mod.": "torch.compile",
    "_fsdp_wrapped_module.": "FSDP",
    "_checkpoint_wrapped_module.": "activation checkpointing",
    "module.": "DataParallel or DeepSpeed",
    "base_model.model.": PEFT,
    "base_layer.": PEFT,
    "model.": "a module that has the model as 'model', as in Lightning",
}
HARMLESS = re.compile(r"[\w.-]+", re.ASCII)  # in a command line, between quotes


@dataclass(frozen=True)
class Renaming:
    """What is taken out of names: ``wrappers`` wherever they stand, then a ``prefix``; ``sources`` are their makers."""

    wrappers: tuple[str, ...] = ()
    prefix: str = ""
    sources: tuple[str, ...] = ()

    @classmethod
    def of_wrappers(cls, names: Iterable[str]) -> Renaming:
        """Find the wrappers that are known."""
        freed, found = [f".{name}" for name in names], cls()
        for wrapper, source in WRAPPERS.items():
            if any(f".{wrapper}" in name for name in freed):
                sources = tuple(dict.fromkeys((*found.sources, source)))
                found = replace(found, wrappers=(*found.wrappers, wrapper), sources=sources)
                freed = [name.replace(f".{wrapper}", ".") for name in freed]
        return found

    @classmethod
    def before(cls, names: Iterable[str], ending: str) -> Renaming:
        """Find the wrappers, and what else stands before the first name that ends with ``ending``."""
        names = list(names)
        found = cls.of_wrappers(names)
        freed = map(found, names)
        front = next((name.removesuffix(ending) for name in freed if f".{name}".endswith(f".{ending}")), "")
        if not HARMLESS.fullmatch(front):
            return found
        source = f"a module that has the model as {front.removesuffix('.')!r}"
        return replace(found, prefix=front, sources=(*found.sources, source))

    def __bool__(self) -> bool:
        return bool(self.wrappers or self.prefix)

    def __call__(self, name: str) -> str:
        """Return the name without them."""
        for wrapper in self.wrappers:
            name = name.replace(wrapper, "")
        return name.removeprefix(self.prefix)

    @property
    def expression(self) -> str:
        """The same in Python, of a name ``k``."""
        replaced = "".join(f".replace('{wrapper}', '')" for wrapper in self.wrappers)
        return f"k{replaced}" + (f".removeprefix('{self.prefix}')" if self.prefix else "")


def rewrite_command(files: Sequence[Path], expression: str = "k", key: object = None) -> str:
    """The command that writes a checkpoint's weights anew, in one file, which is preferred to shards.

    ``expression`` is the new name of a tensor ``k``; ``key`` is that of the state dict in what the file holds.
    """
    pickled = files[0].suffix != ".safetensors"
    single = "pytorch_model.bin" if pickled else "model.safetensors"
    if len(files) > 1:
        source = f"glob('{single.replace('.', '-*.')}')"
    else:
        source = repr([files[0].name if HARMLESS.fullmatch(files[0].name) else "FILE"])
    item = "" if key is None else f"['{key if isinstance(key, str) and HARMLESS.fullmatch(key) else 'KEY'}']"
    state = f"{{{expression}: v for f in {source} for k, v in load(f){item}.items()}}"
    library = "torch import load, save" if pickled else "safetensors.torch import load_file as load, save_file as save"
    imports = [*(["from glob import glob"] if len(files) > 1 else []), f"from {library}"]
    metadata = "" if pickled else ", metadata={'format': 'pt'}"
    return f'python -c "{"; ".join([*imports, f"save({state}, {single!r}{metadata})"])}"'
