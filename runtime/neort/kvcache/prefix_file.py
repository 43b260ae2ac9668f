"""One file with a prefix's tokens, keys and values, in the safetensors format.

    u64, little-endian      bytes of the header
    header                  JSON, padded with spaces: dtype, shape and place of each tensor; __metadata__ has the facts
    token_ids, logits       int64 [T], float32 [V]
    0.key, 0.value, ...     [H, T, D]
    sha256                  uint8 [32], of all bytes before it

Loading runs no code of the file's, and reads tensors only where the header is the one that neort writes for this model.
The hash finds damage, not malice: who can write the file can put any numbers into it.

Knows files and arrays; knows nothing about how they are used.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle import ModelSpec
from ..errors import OutOfMemoryError, PrefixError, SystemCallError
from ..files import published_file, storage_errors
from ..paths import open_regular
from ..wording import shortened

__all__ = ["FORMAT_VERSION", "PrefixFormat", "StoredPrefix"]

FORMAT_VERSION = "1"
LARGEST_HEADER = 1 << 20
TYPE_NAMES = {"f4": "F32", "f2": "F16", "i1": "I8", "u1": "U8", "i8": "I64"}  # numpy's: safetensors'
OWNER_ONLY = 0o600  # a file is as private as its prompt
REMEDY = "make the prefix again with Model.prefix, and save it"

Tensors = dict[str, tuple[np.dtype[Any], tuple[int, ...]]]  # dtype and shape by name, in the file's order


class MissingPrefixError(SystemCallError, PrefixError, FileNotFoundError):
    """There is no prefix file with this name."""


@dataclass(frozen=True)
class StoredPrefix:
    """``token_ids`` int64 [T], ``logits`` float32 [V] after the last one, ``rows`` [H, T, D] per cache buffer."""

    token_ids: NDArray[np.int64]
    logits: NDArray[np.float32]
    rows: dict[str, NDArray[Any]]


@dataclass(frozen=True)
class PrefixFormat:
    """The files that belong to one model.

    ``row_types`` are the dtypes of its cache buffers by their names, ``model_hash`` tells it from others, and
    ``prefill_chunk`` is the number of tokens in a run of its prefill, on which the last bits of the rows depend.
    """

    spec: ModelSpec
    row_types: Mapping[str, np.dtype[Any]]
    model_hash: str
    prefill_chunk: int

    def save(
        self,
        file: Path,
        token_ids: NDArray[np.int64],
        logits: NDArray[np.float32],
        rows: Callable[[str], NDArray[Any]],
    ) -> None:
        """Write a prefix of T tokens; ``rows`` returns those of a buffer, [H, T, D].

        The file is there as a whole or not at all; a new one is its owner's only. Raises StorageError where the system
        cannot write it.
        """
        digest = hashlib.sha256()
        with (
            storage_errors("the prefix", file, "make room, or name another place"),
            published_file(file, mode=OWNER_ONLY) as stream,
        ):
            for data in self._parts(token_ids, logits, rows):
                stream.write(data)
                digest.update(data)
            stream.write(digest.digest())

    def load(self, file: Path) -> StoredPrefix:
        """Read what `save` wrote.

        Raises PrefixError for a file that is missing (then a FileNotFoundError, too), truncated or damaged, or of
        another model, dtype or version.
        """
        try:
            with BufferedReader(open_regular(file)) as stream:
                size = os.fstat(stream.fileno()).st_size
                return self._read(stream, size, file)
        except FileNotFoundError as error:
            raise MissingPrefixError(
                f"the prefix file {file} cannot be read ({_reason(error)}); {REMEDY}", error
            ) from None
        except OSError as error:
            raise PrefixError(f"the prefix file {file} cannot be read ({_reason(error)}); {REMEDY}") from None
        except MemoryError as error:
            raise OutOfMemoryError(f"there is no memory for the prefix in {file}; free some, or allow more") from error

    def _parts(
        self, token_ids: NDArray[np.int64], logits: NDArray[np.float32], rows: Callable[[str], NDArray[Any]]
    ) -> Iterator[bytes]:
        """The file's bytes, piece by piece, but for the hash at its end."""
        tensors = self._tensors(len(token_ids))
        text = json.dumps(self._header(tensors)).encode()
        text += b" " * (-len(text) % 8)
        yield len(text).to_bytes(8, "little") + text
        first: dict[str, NDArray[Any]] = {"token_ids": token_ids, "logits": logits}
        for name, (dtype, _) in tensors.items():
            if name != "sha256":
                array = first[name] if name in first else rows(name)
                yield array.astype(dtype, order="C", copy=False).tobytes()

    def _tensors(self, length: int) -> Tensors:
        spec = self.spec
        types = {name: dtype.newbyteorder("<") for name, dtype in self.row_types.items()}
        return {
            "token_ids": (np.dtype("<i8"), (length,)),
            "logits": (np.dtype("<f4"), (spec.vocab_size,)),
            **{name: (dtype, (spec.num_heads, length, spec.head_dim)) for name, dtype in types.items()},
            "sha256": (np.dtype("u1"), (hashlib.sha256().digest_size,)),
        }

    def _header(self, tensors: Tensors) -> dict[str, Any]:
        facts = {
            "format": "neort-prefix",
            "format_version": FORMAT_VERSION,
            "model": self.model_hash,
            "prefill_chunk": str(self.prefill_chunk),
        }
        header: dict[str, Any] = {"__metadata__": facts}
        end = 0
        for name, (dtype, shape) in tensors.items():
            start, end = end, end + _nbytes(dtype, shape)
            kind = TYPE_NAMES[dtype.str[1:]]
            header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [start, end]}
        return header

    def _read(self, stream: BufferedReader[FileIO], size: int, file: Path) -> StoredPrefix:
        digest = hashlib.sha256()
        start = stream.read(8)
        count = int.from_bytes(start, "little")
        if len(start) < 8 or count > min(size, LARGEST_HEADER):
            raise PrefixError(f"{file} has {size:,} bytes and is no prefix file, or a truncated one; {REMEDY}")
        text = stream.read(count)
        tensors = self._check_header(text, file)
        expected = 8 + count + sum(_nbytes(*tensor) for tensor in tensors.values())
        if size != expected:
            raise PrefixError(f"{file} has {size:,} bytes, its header says {expected:,}: it is truncated; {REMEDY}")
        digest.update(start + text)
        arrays: dict[str, NDArray[Any]] = {}
        for name, (dtype, shape) in tensors.items():
            computed = digest.digest()
            arrays[name] = np.empty(shape, dtype)
            view = arrays[name].reshape(-1).view(np.uint8).data
            if stream.readinto(view) != len(view):
                raise PrefixError(f"{file} became shorter while it was read; {REMEDY}")
            digest.update(view)
        if arrays.pop("sha256").tobytes() != computed:
            raise PrefixError(f"{file} does not match its sha256: it is damaged; {REMEDY}")
        token_ids, logits = arrays.pop("token_ids"), arrays.pop("logits")
        if token_ids.min() < 0 or token_ids.max() >= self.spec.vocab_size:
            raise PrefixError(f"{file} holds token ids beyond the vocabulary of {self.spec.vocab_size}; {REMEDY}")
        return StoredPrefix(token_ids, logits, arrays)

    def _check_header(self, text: bytes, file: Path) -> Tensors:
        """The tensors that the header lists. Raises PrefixError where neort would have written another header."""
        try:
            header = json.loads(text)
            facts = header["__metadata__"]
            length = header["token_ids"]["shape"][0]
            kinds = {name: header[name]["dtype"] for name in self.row_types if name in header}
            found = {name: facts.get(name) for name in ("format", "format_version", "model", "prefill_chunk")}
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
            raise PrefixError(f"{file} is no prefix file, or its header is damaged; {REMEDY}") from None
        limit = self.spec.max_position_embeddings
        expected = self._header(self._tensors(length if type(length) is int and 0 < length <= limit else 1))
        for name, value in expected["__metadata__"].items():
            if found[name] != value:
                raise PrefixError(f"{file} has {name} {shortened(found[name])}, this model needs {value!r}; {REMEDY}")
        for name, kind in kinds.items():
            if kind != (own := expected[name]["dtype"]):
                raise PrefixError(
                    f"{file} has {name} in {shortened(kind)}, this model's cache is in {shortened(own)}; {REMEDY}"
                )
        if header != expected:
            raise PrefixError(f"{file} has a header that does not fit this model, or a damaged one; {REMEDY}")
        return self._tensors(length)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _nbytes(dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    return dtype.itemsize * math.prod(shape)
