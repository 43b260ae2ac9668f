"""What a folder holds instead of a checkpoint's weights, and what to do with it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from neort.wording import shortened

from ...errors import CheckpointError
from ..reading import REMEDY, has_file, read_object

__all__ = ["refuse_adapter_beside", "without_config", "without_weights"]

ADAPTER = "adapter_config.json"
MOST_ENTRIES = 10_000  # of a folder
OTHERS = (  # what a name looks like, whose it is, what helps
    (r"tf_model.*\.h5", "TensorFlow's weights", "from_tf"),
    (r"flax_model.*\.msgpack", "Flax's weights", "from_flax"),
)
CONVERTED = (
    (r".*\.gguf", "a GGUF file, weights as llama.cpp quantizes them"),
    (r".*\.onnx", "an ONNX graph, which is exported already"),
    (r".*\.ot", "weights of rust-bert"),
)
TRAINING = r"(global_step\d+|zero_to_fp32\.py|.*_model_states\.pt|bf16_zero_.*|zero_pp_rank_.*)"
FSDP = r"(pytorch_model_fsdp.*|.*\.distcp)"
STATE = r"(optimizer.*|scheduler\.pt|rng_state.*\.pth|trainer_state\.json|training_args\.bin)"
SINGLE = r"(model\.safetensors|pytorch_model\.bin)(\.index\.json)?"  # what transformers reads
WEIGHTS = r".*\.(safetensors|bin|pt|pth|ckpt)"


def without_config(folder: Path) -> str:
    """The sentence for a folder without a config.json."""
    if has_file(folder / ADAPTER):
        return _adapter(folder)
    trained = _trained(_entries(folder))
    if trained:
        return f"{folder} has no config.json, but {trained}"
    return f"{folder} has no config.json; give a Hugging Face checkpoint folder"


def without_weights(folder: Path) -> str:
    """The sentence for a folder with a config.json, but neither safetensors nor pickles of the usual names."""
    lacks = f"{folder} has neither model.safetensors nor pytorch_model.bin (nor shards of them)"
    if has_file(folder / ADAPTER):
        return _adapter(folder)
    names = _entries(folder)
    for pattern, what, option in OTHERS:
        if found := _first(names, pattern):
            return (
                f"{lacks}, but {found} ({what}); convert it with transformers 4: AutoModelForCausalLM"
                f".from_pretrained(folder, {option}=True).save_pretrained(folder)"
            )
    for pattern, what in CONVERTED:
        if found := _first(names, pattern):
            return f"{lacks}, but {found} ({what}); give the checkpoint that it was made of"
    trained = _trained(names)
    if trained:
        return f"{lacks}, but {trained}"
    if found := _first(names, WEIGHTS):
        return (
            f"{lacks}, but {found}; if that is the model's state dict, name it as transformers does: model.safetensors "
            "or pytorch_model.bin"
        )
    return f"{lacks}; {REMEDY}, weights included"


def refuse_adapter_beside(folder: Path) -> None:
    """Raise CheckpointError for an adapter beside a configuration: with peft installed transformers goes by it.

    It loads the adapter's base model then, and not the folder's weights.
    """
    if not has_file(folder / ADAPTER):
        return
    if not any(re.fullmatch(SINGLE, name) for name in _entries(folder)):
        raise CheckpointError(_adapter(folder))
    raise CheckpointError(
        f"{folder} holds weights and {ADAPTER}: transformers takes the weights alone where peft is not installed, and "
        f"otherwise the adapter and the base model that it names; remove {ADAPTER} if the weights are the model, or "
        f"give both: neort-export BASE_MODEL --adapter {folder} -o BUNDLE"
    )


def _adapter(folder: Path) -> str:
    """The sentence for an adapter, which is no model without its base."""
    base = read_object(folder / ADAPTER).get("base_model_name_or_path")
    named = base if isinstance(base, str) and base.isprintable() and 0 < len(base) <= 200 else "BASE_MODEL"
    of = f" of {shortened(base)}" if named is base else ""
    return (
        f"{folder} is an adapter{of}, not a model; give the base model's checkpoint and the adapter beside it: "
        f"neort-export {named} --adapter {folder} -o BUNDLE"
    )


def _trained(names: list[str]) -> str:
    """What training leaves in its own formats, and what helps; empty where there is nothing of it."""
    if found := _first(names, TRAINING):
        return (
            f"{found}, as DeepSpeed saves what each process has; put it together in that folder with "
            "python zero_to_fp32.py . OUTPUT"
        )
    if found := _first(names, FSDP):
        return (
            f"{found}, as FSDP saves what each process has; put it together with accelerate merge-weights FOLDER OUTPUT"
        )
    steps = sorted((int(match[1]), name) for name in names if (match := re.fullmatch(r"checkpoint-(\d{1,12})", name)))
    if steps:
        return f"folders of a training; give one of them, such as {shortened(steps[-1][1])}"
    if found := _first(names, STATE):
        return f"{found}, the state of a training; save the model beside it: model.save_pretrained(folder)"
    return ""


def _first(names: list[str], pattern: str) -> str:
    return next((shortened(name) for name in names if re.fullmatch(pattern, name)), "")


def _entries(folder: Path) -> list[str]:
    """The names in a folder, sorted; a few thousand of them at most."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry, _ in zip(entries, range(MOST_ENTRIES), strict=False))
    except OSError:
        return []
