"""One process of several that answer a file's records: it loads the model, and answers what its parent sends."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from ..generation import GenerationConfig
from ..workers import Parent, in_words, load_together
from .records import Record
from .results import Result, answer, threads_of

__all__ = ["END", "FAILED", "GO", "READY", "RECORD", "RESULT", "Job", "work"]

GO, RECORD, READY, RESULT, FAILED, END = "go", "record", "ready", "result", "failed", "end"


@dataclass(frozen=True)
class Job:
    """What all workers do; it is sent to each.

    ``loading`` are arguments of `neort.load`, but for the threads, of which each worker has its own number. The others
    are those of `results.answers`.
    """

    bundle: Path
    loading: dict[str, Any]
    config: GenerationConfig
    output_key: str
    batch_size: int
    negative_prompt: str | None = None


def work(parent: Parent, job: Job, threads: int, folder: Path | None) -> None:
    """Load with so many threads once the parent says so, and answer its records until it says that there are no more.

    ``folder`` is for packed weights, see `workers.load_together`.
    """
    messages = parent.messages()
    messages.get()
    try:
        model = load_together(job.bundle, {**job.loading, "num_threads": threads}, folder)
    except Exception as error:
        parent.tell(FAILED, None, *in_words(error))
        raise SystemExit(1) from None
    parent.tell(READY)
    run = functools.partial(answer, model, job.config, job.output_key, job.negative_prompt)
    count = threads_of(job.config, job.batch_size)
    answering = [threading.Thread(target=_answer, args=(parent, messages, run)) for _ in range(count)]
    for thread in answering:
        thread.start()
    for thread in answering:
        thread.join()


def _answer(parent: Parent, messages: SimpleQueue[tuple[Any, ...]], run: Callable[[Record], Result]) -> None:
    """Answer records until there are no more."""
    while (message := messages.get())[0] == RECORD:
        record: Record = message[1]
        try:
            _, result = run(record)
        except Exception as error:
            parent.tell(FAILED, record.index, *in_words(error))
        else:
            parent.tell(RESULT, record.index, result)
    messages.put(message)  # the other threads end by it, too
