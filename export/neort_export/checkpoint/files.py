"""The weight files of a checkpoint's folder: safetensors or pickles, one file or shards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from neort.wording import shortened

from ..errors import CheckpointError
from .pickles import open_pickle
from .reading import LARGE_FILE, has_file, read_object
from .safetensors_files import open_safetensors
from .stored import StoredTensor

__all__ = ["open_tensors"]

LONGEST_NAME = 255  # what file systems have


def open_tensors(folder: Path) -> Mapping[str, StoredTensor]:
    """Return all tensors of a folder by name: those of its safetensors, else of torch pickles, weights only.

    Raises CheckpointError for a folder without weights, and for damaged or missing files.
    """
    safetensors = _files(folder, "model.safetensors")
    if safetensors:
        return {name: t for file in safetensors for name, t in open_safetensors(file).items()}
    pickles = _files(folder, "pytorch_model.bin")
    if pickles:
        return {name: t for file in pickles for name, t in open_pickle(file).items()}
    raise CheckpointError(f"{folder} has neither model.safetensors nor pytorch_model.bin (nor shards of them)")


def _files(folder: Path, single: str) -> list[Path]:
    """The weight files of one kind: the single file, or the shards that its index names."""
    if has_file(folder / single):
        return [folder / single]
    index = folder / f"{single}.index.json"
    if not has_file(index):
        return []
    weight_map = read_object(index, LARGE_FILE).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise CheckpointError(f"{index} has no weight_map from tensors to shards; fetch the checkpoint again")
    names = sorted(set(weight_map.values()))
    for name in names:
        if Path(name).name != name or len(name) > LONGEST_NAME:
            raise CheckpointError(
                f"{index} names the shard {shortened(name)}; shards lie in the checkpoint's own folder, under names of "
                f"at most {LONGEST_NAME} characters: fetch the checkpoint again"
            )
        if not has_file(folder / name):
            raise CheckpointError(
                f"{folder} lacks the shard {shortened(name)}, which {index.name} names; fetch it again"
            )
    return [folder / name for name in names]
