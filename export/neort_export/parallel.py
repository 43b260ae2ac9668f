"""All cores for work on blocks of a tensor: numpy computes and files are read without the interpreter's lock."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from neort.backend import available_cpus

__all__ = ["ordered_map"]

T = TypeVar("T")
R = TypeVar("R")


def ordered_map(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """``function`` of each item, in order; as many at work or waiting to be fetched as there are CPUs, plus one.

    ``function`` must not call ordered_map itself.
    """
    pool = _pool()
    limit = available_cpus()
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > limit:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(available_cpus(), thread_name_prefix="neort-export")
