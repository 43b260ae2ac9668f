"""A prefix that is kept for the prompts that begin with it."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import TracebackType

import numpy as np

from ..arrays import Ids
from ..errors import PrefixError, StorageError
from ..paths import given_path
from .prefix_cache import Pin
from .prefix_file import PrefixFormat

__all__ = ["Prefix"]


class Prefix:
    """The keys and values of a prefix, pinned; made by `Model.prefix` and `Model.load_prefix`.

    Every prompt that begins with its tokens starts from it, by itself. Closing it, by `close` or ``with``, unpins it:
    what the model's ``prefix_cache_bytes`` allow stays until something newer takes its place.
    """

    def __init__(self, token_ids: Ids, pin: Pin, file_format: PrefixFormat, release: Callable[[Pin], None]) -> None:
        """``token_ids`` are int64 [T]; ``release`` unpins, and is called by `close`."""
        self.token_ids: tuple[int, ...] = tuple(token_ids.tolist())
        self._pin = pin
        self._format = file_format
        self._release = release
        self._closed = False

    @property
    def nbytes(self) -> int:
        """Memory that it takes, together with the prompts that share it; 0 once closed."""
        return 0 if self._closed else sum(block.nbytes for block in self._pin.blocks)

    def save(self, file: str | os.PathLike[str]) -> None:
        """Write it to a file that `Model.load_prefix` reads; the file is there as a whole or not at all.

        The file holds the prompt's tokens and what the model made of them: it is as private as the prompt.

        Raises PrefixError for a closed prefix, StorageError where the file cannot be written.
        """
        blocks = list(self._pin.blocks)
        if self._closed or not blocks:
            raise PrefixError("the prefix is closed; save it before")
        logits = blocks[-1].logits
        assert logits is not None  # those of a pinned prefix are always kept
        self._format.save(
            given_path(file, "the prefix file", StorageError),
            np.array(self.token_ids, np.int64),
            logits,
            lambda name: np.concatenate([block.rows[name] for block in blocks], axis=1),
        )

    def close(self) -> None:
        """Unpin it. Never waits; a second time does nothing."""
        if not self._closed:
            self._closed = True
            self._release(self._pin)

    def __enter__(self) -> Prefix:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self.token_ids)

    def __repr__(self) -> str:
        return f"<neort.Prefix of {len(self)} tokens, {self.nbytes:,} bytes>"
