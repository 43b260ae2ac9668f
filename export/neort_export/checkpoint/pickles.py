"""Tensors of a pickle as torch.save writes it, read by torch's weights-only loader, which runs no code of the file."""

from __future__ import annotations

import zipfile
from pathlib import Path

import torch

from ..errors import CheckpointError
from .reading import said, unreadable
from .stored import StoredTensor

__all__ = ["open_pickle"]

ENCRYPTED = 1  # of a record's flags


def open_pickle(file: Path) -> dict[str, StoredTensor]:
    """Return the tensors of a state dict by name. Raises CheckpointError for a file that holds anything else."""
    try:
        with file.open("rb"):
            pass
        zipped = zipfile.is_zipfile(file)
        if zipped:
            _check_archive(file)
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=zipped)
    except MemoryError:
        raise
    except OSError as error:
        raise unreadable(file, error) from error
    except Exception as error:  # torch raises RuntimeError, UnpicklingError, EOFError, ...
        why = said(error) if isinstance(error, zipfile.BadZipFile) else type(error).__name__
        raise CheckpointError(
            f"{file} cannot be read by torch's weights-only loader ({why}); fetch it again, or "
            "convert the checkpoint to safetensors with a tool that you trust"
        ) from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{file} holds {type(state).__name__}, not a state dict; save the model's state_dict()")

    def stored(name: str, tensor: torch.Tensor) -> StoredTensor:
        plain = tensor.layout is torch.strided and tensor.device.type == "cpu"
        dtype = str(tensor.dtype).removeprefix("torch.") if plain else f"{tensor.layout} on {tensor.device}"
        return StoredTensor(file, name, tuple(tensor.shape), dtype, lambda start, stop: tensor[start:stop])

    tensors = {n: t for n, t in state.items() if isinstance(n, str) and isinstance(t, torch.Tensor)}
    return {name: stored(name, t) for name, t in tensors.items() if t.ndim}


def _check_archive(file: Path) -> None:
    """Raises BadZipFile where a record is not what the archive says of it, which torch does not ask of a mapped one."""
    with zipfile.ZipFile(file) as archive:
        for record in archive.infolist():
            if record.compress_type != zipfile.ZIP_STORED or record.flag_bits & ENCRYPTED:
                raise zipfile.BadZipFile(f"the record {record.filename!r} is compressed or encrypted")
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"the record {damaged!r} has another checksum than the archive says")
