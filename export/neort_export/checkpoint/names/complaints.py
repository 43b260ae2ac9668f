"""What is wrong with the names of a checkpoint's tensors, and how to mend it: the sentence for each kind of mistake."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neort.wording import shortened

from ...architectures import Architecture
from ..remedies import PEFT, Renaming, rewrite_command
from ..tensors import StoredTensor

__all__ = ["Names", "complaint", "listed"]

NAMED = 3  # of a list of tensors
FACTORS = ("lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B", "lora_magnitude_vector")
OTHER_HEADS = ("score.", "classifier.", "qa_outputs.")
RANDOM = "which transformers would fill with random numbers"


@dataclass(frozen=True)
class Names:
    """What a checkpoint has, ``tensors`` by name, and what its configuration asks for, ``expected`` shapes by name."""

    folder: Path
    config: Any
    architecture: Architecture
    expected: Mapping[str, tuple[int, ...]]
    tensors: Mapping[str, StoredTensor]

    @property
    def files(self) -> list[Path]:
        """The files with tensors."""
        return sorted({tensor.file for tensor in self.tensors.values()})


def complaint(facts: Names, missing: Sequence[str], left: Sequence[str], said: str = "") -> str:
    """Say why parameters have no tensor (``missing``), or tensors no parameter (``left``), and what helps.

    ``said`` is what transformers says, for want of a better reason.
    """
    kinds = (_other_head, _factors, _renamed, _untied_head, _layers, _biases)
    for kind in kinds:
        sentence = kind(facts, missing, left)
        if sentence:
            return f"{facts.folder}{sentence}"
    if said:
        return f"{facts.folder}: {said}; save the model again with save_pretrained()"
    if missing and left:
        return (
            f"{facts.folder} has no tensor {listed(missing)}, {RANDOM}, but {listed(left)}, for which its config.json "
            "has no place; give the checkpoint as transformers saves it, not quantized and under its own names"
        )
    if missing:
        return f"{facts.folder} has no tensor {listed(missing)}, {RANDOM}; the checkpoint is incomplete: fetch it again"
    return (
        f"{facts.folder} has tensors for which its config.json has no place, and which the export would leave "
        f"out: {listed(left)}; use the config.json that belongs "
        "to these weights, or save the checkpoint without these tensors if they are no part of the model"
    )


def listed(names: Sequence[str]) -> str:
    """The first few of a list of names."""
    others = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(shortened(name) for name in names[:NAMED]) + others


def _other_head(facts: Names, missing: Sequence[str], left: Sequence[str]) -> str:
    heads = [name for name in left if name.startswith(OTHER_HEADS)]
    if not heads:
        return ""
    classes = getattr(facts.config, "architectures", None)
    named = classes if isinstance(classes, list) else []
    other = [each for each in named if isinstance(each, str) and not each.endswith(("ForCausalLM", "LMHeadModel"))]
    of = f" of a {shortened(other[0])}" if other else " of another kind of model"
    return (
        f" holds {listed(heads)}, the head{of}, which is no language model; neort exports language models only: give "
        "the checkpoint of one"
    )


def _factors(facts: Names, missing: Sequence[str], left: Sequence[str]) -> str:
    factors = [name for name in facts.tensors if any(factor in name.split(".") for factor in FACTORS)]
    if not factors:
        return ""
    return (
        f" holds LoRA factors that are not merged into the weights: {listed(factors)}; merge them where the model was "
        "trained (peft: model.merge_and_unload().save_pretrained(...)), or save the adapter alone "
        "(model.save_pretrained(...)) and give its folder with --adapter, beside the base model's checkpoint"
    )


def _renamed(facts: Names, missing: Sequence[str], left: Sequence[str]) -> str:
    """The tensors are all there, but for something in their names."""
    prefix, names = facts.architecture.names.prefix, facts.architecture.names
    wanted = {name.removeprefix(prefix) for name in facts.expected} - {names.head}
    if wanted <= {name.removeprefix(prefix) for name in facts.tensors}:
        mixed = len({name.startswith((prefix, names.head)) for name in facts.tensors}) == 2
        if not missing or not mixed or set(missing) == {names.head}:
            return ""
        mended = f"k if k.startswith(('{prefix}', '{names.head}')) else '{prefix}' + k"
        return (
            f" has names with and without {prefix!r} before them, which the installed transformers does not read "
            f"together; mend the names: in that folder, {rewrite_command(facts.files, mended)}"
        )
    for start in (names.token_embedding, names.token_embedding.removeprefix(prefix)):
        found = Renaming.before(facts.tensors, start)
        if found and wanted <= {found(name).removeprefix(prefix) for name in facts.tensors}:
            adapter = "; give the adapter's folder with --adapter then" if PEFT in found.sources else ""
            return (
                f" holds the model's tensors under other names, such as {shortened(left[0])}: those of "
                f"{' and of '.join(found.sources)}; save the model itself, or mend the names: in that folder, "
                f"{rewrite_command(facts.files, found.expression)}{adapter}"
            )
    return ""


def _untied_head(facts: Names, missing: Sequence[str], left: Sequence[str]) -> str:
    head = facts.architecture.names.head
    if list(missing) != [head]:
        return ""
    return (
        f" has no tensor {head!r}, {RANDOM}, though config.json says that the head is not the embedding "
        "(tie_word_embeddings is false); fetch the checkpoint again, or set tie_word_embeddings to true if the model "
        "was trained with a tied head"
    )


def _layers(facts: Names, missing: Sequence[str], left: Sequence[str]) -> str:
    """Whole layers more or fewer than config.json has."""
    layers = facts.architecture.names.layers.removeprefix(facts.architecture.names.prefix)
    pattern = re.compile(rf"(?:^|\.){re.escape(layers)}\.(\d{{1,9}})\.")
    found = {int(match[1]) for name in facts.tensors if (match := pattern.search(name))}
    count = facts.config.num_hidden_layers
    key = facts.config.attribute_map.get("num_hidden_layers", "num_hidden_layers")
    if found != set(range(len(found))) or len(found) == count or not found:
        return ""
    why = (
        f"the export would leave out {listed(left)}"
        if len(found) > count
        else f"there is no tensor {missing[0]!r}, {RANDOM}"
    )
    return (
        f" has tensors of {len(found):,} layers, but {key} in its config.json is {count:,}: {why}; use the config.json "
        "that belongs to these weights"
    )


def _biases(facts: Names, missing: Sequence[str], left: Sequence[str]) -> str:
    """Every bias is missing, and nothing else."""
    if left or set(missing) != {name for name in facts.expected if name.endswith(".bias")}:
        return ""
    zeros = "from transformers import AutoModelForCausalLM as M; M.from_pretrained('.').save_pretrained('.')"
    return (
        f" has no biases ({listed(missing)}), which transformers would fill with zeros; if the model was trained "
        f'without them (as nanoGPT\'s with bias=False), write the zeros: in that folder, python -c "{zeros}"'
    )
