"""Tensors of a pickle as torch.save writes it, read by torch's weights-only loader, which runs no code of the file."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from neort.wording import shortened

from ...errors import CheckpointError
from ..reading import refuse_pointer, said, unreadable
from ..remedies import Renaming, rewrite_command
from .stored import StoredTensor

__all__ = ["open_pickle"]

GLOBAL = re.compile(r"GLOBAL ([\w.]{1,200})")
ENCRYPTED = 1  # of a record's flags


def open_pickle(file: Path) -> dict[str, StoredTensor]:
    """Return the tensors of a state dict by name. Raises CheckpointError for a file that holds anything else."""
    refuse_pointer(file)
    state = _load(file)
    if not isinstance(state, Mapping):
        raise CheckpointError(f"{file} holds {type(state).__name__}, not a state dict; save the model's state_dict()")
    nested = {name: value for name, value in state.items() if isinstance(value, Mapping) and _named(value)}
    if nested:
        key = max(nested, key=lambda name: len(_named(nested[name])))  # an optimizer's has fewer
        raise CheckpointError(_nested(file, key, nested[key]))
    tensors = {n: t for n, t in state.items() if isinstance(n, str) and isinstance(t, torch.Tensor)}
    if state and not tensors:
        raise CheckpointError(
            f"{file} holds no tensors by their names, but {shortened(next(iter(state)))} and the like; save the "
            "model's state_dict() there"
        )
    return {name: _stored(file, name, tensor) for name, tensor in tensors.items()}


def _load(file: Path) -> Any:
    """What the file holds, tensors mapped where the format allows it."""
    try:
        zipped = zipfile.is_zipfile(file)
        if zipped:
            _check_archive(file)
        return torch.load(file, map_location="cpu", weights_only=True, mmap=zipped)
    except MemoryError:
        raise
    except OSError as error:
        raise unreadable(file, error) from error
    except Exception as error:  # torch raises RuntimeError, UnpicklingError, EOFError, ...
        why = said(error) if isinstance(error, zipfile.BadZipFile) else type(error).__name__
        needed = GLOBAL.search(str(error))
        if needed:
            raise CheckpointError(
                f"{file} cannot be read by torch's weights-only loader: besides tensors it holds "
                f"{shortened(needed[1])}, which would run code; save model.state_dict() alone, or convert the "
                "checkpoint to safetensors with a tool that you trust"
            ) from error
        raise CheckpointError(
            f"{file} cannot be read by torch's weights-only loader ({why}); fetch it again, or "
            "convert the checkpoint to safetensors with a tool that you trust"
        ) from error


def _stored(file: Path, name: str, tensor: torch.Tensor) -> StoredTensor:
    """A tensor, or a parameter, of the file."""
    values = tensor.detach()
    plain = values.layout is torch.strided and values.device.type == "cpu"
    dtype = str(values.dtype).removeprefix("torch.") if plain else f"{values.layout} on {values.device}"
    return StoredTensor(file, name, tuple(values.shape), dtype, lambda start, stop: values[start:stop].resolve_neg())


def _named(state: Mapping[Any, object]) -> list[str]:
    """The names of the tensors in a state dict."""
    return [name for name, value in state.items() if isinstance(name, str) and isinstance(value, torch.Tensor)]


def _nested(file: Path, key: object, state: Mapping[Any, object]) -> str:
    """The sentence for a file that holds the model's state dict under a key."""
    renaming = Renaming.of_wrappers(_named(state))
    command = rewrite_command([file], renaming.expression, key)
    return (
        f"{file} holds a state dict under the key {shortened(key)}, as training writes it, where transformers reads "
        f"tensors; take it out: in that folder, {command}"
    )


def _check_archive(file: Path) -> None:
    """Raises BadZipFile where a record is not what the archive says of it, which torch does not ask of a mapped one."""
    with zipfile.ZipFile(file) as archive:
        for record in archive.infolist():
            if record.compress_type != zipfile.ZIP_STORED or record.flag_bits & ENCRYPTED:
                raise zipfile.BadZipFile(f"the record {record.filename!r} is compressed or encrypted")
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"the record {damaged!r} has another checksum than the archive says")
