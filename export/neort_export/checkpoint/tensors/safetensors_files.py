"""Tensors of a safetensors file, read at their offsets: memory-mapped pages would count as this process's memory.

Format: https://huggingface.co/docs/safetensors (eight bytes of header length, a JSON header, the data). The library
checks that header and data fit together.
"""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from ...errors import CheckpointError
from ..reading import refuse_pointer, said
from .stored import StoredTensor

__all__ = ["open_safetensors"]

NAMES = {"BF": "bfloat", "F": "float", "I": "int", "U": "uint"}


def open_safetensors(file: Path) -> dict[str, StoredTensor]:
    """Return the tensors of a file by name. Raises CheckpointError for a damaged one."""
    refuse_pointer(file)
    try:
        with safe_open(str(file), framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} is damaged or truncated ({said(error)}); fetch it again") from error
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
    header.pop("__metadata__", None)
    return {name: _tensor(file, name, 8 + length, entry) for name, entry in header.items()}


def _tensor(file: Path, name: str, data: int, entry: dict[str, Any]) -> StoredTensor:
    """One entry of a header; ``data`` is where the file's data begin."""
    shape, dtype = tuple(entry["shape"]), _dtype_name(entry["dtype"])
    offset = data + entry["data_offsets"][0]

    def read(start: int, stop: int | None) -> torch.Tensor:
        torch_dtype: torch.dtype = getattr(torch, dtype)
        start, stop, _ = slice(start, stop).indices(shape[0])
        width = math.prod(shape[1:])
        stored = np.empty((stop - start) * width * torch_dtype.itemsize, np.uint8)
        with file.open("rb", buffering=0) as stream:
            stream.seek(offset + start * width * torch_dtype.itemsize)
            _fill(stream, stored.data)
        return torch.from_numpy(stored).view(torch_dtype).reshape(stop - start, *shape[1:])

    def read_columns(start: int, stop: int | None) -> torch.Tensor:
        torch_dtype: torch.dtype = getattr(torch, dtype)
        start, stop, _ = slice(start, stop).indices(shape[1])
        if stop - start == shape[1]:
            return read(0, None)
        size = torch_dtype.itemsize
        stored = np.empty((shape[0], (stop - start) * size), np.uint8)
        with file.open("rb", buffering=0) as stream:
            for i, row in enumerate(stored):
                stream.seek(offset + (i * shape[1] + start) * size)
                _fill(stream, row.data)
        return torch.from_numpy(stored).view(torch_dtype)

    return StoredTensor(file, name, shape, dtype, read, read_columns)


def _fill(stream: io.RawIOBase, buffer: memoryview) -> None:
    """Read until the buffer is full; one read returns 2 GB at most."""
    while buffer:
        count = stream.readinto(buffer)
        if not count:
            raise CheckpointError("a safetensors file became shorter while it was read; fetch it again")
        buffer = buffer[count:]


def _dtype_name(code: str) -> str:
    """The usual name of a safetensors dtype: "BF16" is bfloat16."""
    kind = code.rstrip("0123456789")
    return NAMES[kind] + code.removeprefix(kind) if kind in NAMES else code
