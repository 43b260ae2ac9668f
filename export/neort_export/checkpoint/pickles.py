"""Tensors of a pickle as torch.save writes it, read by torch's weights-only loader, which runs no code of the file."""

from __future__ import annotations

import zipfile
from pathlib import Path

import torch

from ..errors import CheckpointError
from .stored import StoredTensor

__all__ = ["open_pickle"]


def open_pickle(file: Path) -> dict[str, StoredTensor]:
    """Return the tensors of a state dict by name. Raises CheckpointError for a file that holds anything else."""
    try:
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except Exception as error:  # torch raises RuntimeError, UnpicklingError, EOFError, ...
        raise CheckpointError(
            f"{file} cannot be read by torch's weights-only loader ({type(error).__name__}); "
            "convert the checkpoint to safetensors with a tool that you trust"
        ) from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{file} holds {type(state).__name__}, not a state dict; save the model's state_dict()")

    def stored(name: str, tensor: torch.Tensor) -> StoredTensor:
        dtype = str(tensor.dtype).removeprefix("torch.")
        return StoredTensor(file, name, tuple(tensor.shape), dtype, lambda start, stop: tensor[start:stop])

    return {name: stored(name, t) for name, t in state.items() if isinstance(t, torch.Tensor) and t.ndim}
