"""The weight files of a checkpoint's folder: safetensors or pickles, one file or shards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from neort.wording import shortened

from ...errors import CheckpointError
from ..reading import LARGE_FILE, has_file, read_object
from ..remedies import without_weights
from .pickles import open_pickle
from .safetensors_files import open_safetensors
from .stored import StoredTensor

__all__ = ["open_tensors"]

LONGEST_NAME = 255  # what file systems have


def open_tensors(folder: Path, buffers: tuple[str, ...] = ()) -> Mapping[str, StoredTensor]:
    """Return all tensors of a folder by name: those of its safetensors, else of torch pickles, weights only.

    ``buffers`` are how the names end of tensors that an index need not have.

    Raises CheckpointError for a folder without weights, and for damaged or missing files.
    """
    for single, opened in (("model.safetensors", open_safetensors), ("pytorch_model.bin", open_pickle)):
        if has_file(folder / single):
            return opened(folder / single)
        index = folder / f"{single}.index.json"
        if has_file(index):
            weight_map = _weight_map(index)
            shards = {shard: opened(folder / shard) for shard in sorted(set(weight_map.values()))}
            return _joined(index, weight_map, shards, buffers)
    raise CheckpointError(without_weights(folder))


def _joined(
    index: Path,
    weight_map: Mapping[str, str],
    shards: Mapping[str, Mapping[str, StoredTensor]],
    buffers: tuple[str, ...],
) -> dict[str, StoredTensor]:
    """The tensors of all shards. Raises CheckpointError where they are others than the index says."""
    for name, shard in weight_map.items():
        if name not in shards[shard]:
            raise CheckpointError(
                f"{index} says that {shortened(shard)} holds {shortened(name)}, which it does not; fetch both again"
            )
    for shard, tensors in shards.items():
        for name in tensors:
            if weight_map.get(name) != shard and not name.endswith(buffers or "\0"):
                raise CheckpointError(
                    f"{index.parent / shard} holds {shortened(name)}, "
                    f"{'too, ' if name in weight_map else ''}which {index.name} "
                    f"{'expects in ' + shortened(weight_map[name]) if name in weight_map else 'does not name'}; "
                    "fetch both again"
                )
    return {name: tensor for tensors in shards.values() for name, tensor in tensors.items()}


def _weight_map(index: Path) -> dict[str, str]:
    """The shard of each tensor. Raises CheckpointError for an index without it, and for shards that are not there."""
    weight_map = read_object(index, LARGE_FILE).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise CheckpointError(f"{index} has no weight_map from tensors to shards; fetch the checkpoint again")
    for name in sorted(set(weight_map.values())):
        if Path(name).name != name or len(name) > LONGEST_NAME:
            raise CheckpointError(
                f"{index} names the shard {shortened(name)}; shards lie in the checkpoint's own folder, under names of "
                f"at most {LONGEST_NAME} characters: fetch the checkpoint again"
            )
        if not has_file(index.parent / name):
            raise CheckpointError(
                f"{index.parent} lacks the shard {shortened(name)}, which {index.name} names; fetch it again"
            )
    return weight_map
