"""Turns requests into tokens: one `step()` lets requests in, reads a part of a prompt, decodes, and hands out tokens.

A step is all or nothing for each request: it takes its token, or it fails and the others go on as they would have. So
whatever a run, a processor or the system's memory does, what is left is sound.

Knows runs and logits; knows nothing about threads, text or onnxruntime.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from ..arrays import Ids, Logits
from ..kvcache import PrefixCache
from ..runner import ModelRunner, prefill_chunk_of
from ..speculative import Speculator
from .decoding import Decoding
from .figures import Counts, EngineFigures
from .group import ChargedTo, Group
from .limits import check_ids
from .prefill import Prefill
from .reading import MOST_ROWS, Reading, ReadingResult, RowSource, first_batch, read_batch
from .scheduler import Scheduler

__all__ = ["EngineCore"]

Result = TypeVar("Result")


class EngineCore:
    """Runs any number of requests on one model, up to ``runner.max_batch_size`` at a time.

    Not thread-safe, but for `check`, `submit`, `cancel` and `figures`: see `Engine`, which gives it a thread.
    """

    def __init__(
        self,
        runner: ModelRunner,
        *,
        prefill_chunk: int | None = None,
        prefill_runs: int = 1,
        max_cache_bytes: int | None = None,
        max_queue: int | None = None,
        speculate: Callable[[], Speculator] | None = None,
        prefixes: PrefixCache | None = None,
    ) -> None:
        """Prompts are run in pieces of ``prefill_chunk`` tokens, None: as the model's size has it.

        ``prefill_runs`` is how many such runs there may be between two steps of sequences that are decoded.
        ``max_cache_bytes`` limits the cache, ``max_queue`` the requests that wait; None means no limit.

        ``speculate`` makes what drafts for a sequence, as long as it is the only one that runs. ``prefixes``, a cache
        with blocks of ``prefill_chunk`` tokens, keeps prompts for later ones that begin alike.
        """
        self.runner = runner
        self.prefill_chunk = prefill_chunk or prefill_chunk_of(runner.spec)
        self.prefill_runs = prefill_runs
        self.prefixes = prefixes
        self.counts = Counts()
        self.scheduler = Scheduler(runner, max_cache_bytes=max_cache_bytes, max_queue=max_queue, prefixes=prefixes)
        self.decoding = Decoding(runner, self.scheduler, self.counts, speculate)
        self._prefill = Prefill(runner, self.scheduler, self.prefill_chunk, prefixes, self.counts, self.decoding.take)

    @property
    def busy(self) -> bool:
        """Whether requests wait or have slots."""
        return bool(self.waiting or self.scheduler.slots.owners)

    @property
    def waiting(self) -> deque[Group]:
        """The requests that wait for a slot or for room in the cache, as they came."""
        return self.scheduler.waiting

    @property
    def running(self) -> list[Group]:
        """The requests that are being decoded, in the order of their first slots."""
        return self.scheduler.running

    @property
    def prefilling(self) -> list[Group]:
        """The requests that have slots, and of whose prompts a part is to be run."""
        return self.scheduler.prompts

    @property
    def figures(self) -> EngineFigures:
        """What is done now, and was since the start. Any thread may ask, and never waits."""
        return EngineFigures(**self.scheduler.load(), **vars(self.counts))

    def check(self, request: Group) -> None:
        """Check that a request can be served at all; `submit` does not check it again.

        Raises PromptError for a prompt that is empty, holds unknown ids, or does not fit: when overflow is "error" and
        the context is too short, or when the request alone needs more cache than ``max_cache_bytes``; ConfigError where
        it needs more slots than there are.
        """
        self.scheduler.check(request)

    def submit(self, request: Group) -> None:
        """Queue a request; never waits.

        Raises what `check` does, unless the request was checked, and BusyError where ``max_queue`` wait already.
        """
        self.scheduler.submit(request)

    def cancel(self, request: Group) -> None:
        """Drop a request that nobody waits for any more; a finished one is left alone.

        Any thread may call it, at any time: the next step, or `settle`, frees the slot.
        """
        request.done = True

    def settle(self) -> None:
        """Free what was cancelled, and what texts that were read had borrowed."""
        self.scheduler.slots.give_back()
        self._settle()

    def step(self) -> None:
        """Let in who fits, run a part of a prompt, then decode one token for every running sequence.

        A request whose processors, prefill, decode run or memory fails ends with that error, which its sink gets. What
        belongs to no request, such as Ctrl-C, is raised; then another step may follow, or `fail_all`.
        """
        self.scheduler.slots.give_back()
        self._step()

    def _step(self) -> None:
        """A step, in the middle of a text that is read, too."""
        scheduler = self.scheduler
        scheduler.end_late()
        scheduler.drop_done()
        while (request := scheduler.next_request()) is not None:
            with ChargedTo(request):
                scheduler.admit(request)
        scheduler.slots.close_up()
        for _ in range(self.prefill_runs):
            if not self._prefill.turn(self._most_rows):
                break
        self.decoding.step(self._prefill)
        self._settle()

    def _settle(self) -> None:
        self.scheduler.drop_done()
        self.scheduler.release_idle()

    def fail_all(self, error: BaseException) -> None:
        """End every request with an error."""
        self.counts.failed = error
        for request in [*self.running, *self.prefilling, *self.waiting.copy()]:
            request.fail(error)
        self.scheduler.forget_done()

    def logits(self, token_ids: Ids, wanted: Callable[[], bool] = lambda: True) -> Logits:
        """Return the logits after every position of ``token_ids``, int64 [T]: float32 [T, V].

        Stops, with rows that mean nothing, once they are not ``wanted`` any more.

        Raises PromptError for bad ids, or more of them than can ever fit; BusyError where the running sequences leave
        no slot or too little of ``max_cache_bytes`` now.
        """
        spec = self.runner.spec
        check_ids(token_ids, spec)
        self.scheduler.limits.check_positions(len(token_ids))
        self.scheduler.drop_done()
        self.scheduler.slots.give_back()
        try:
            slot = self.scheduler.borrow_slot(len(token_ids))
            out = np.empty((len(token_ids), spec.vocab_size), np.float32)
            for start in range(0, len(token_ids), self.prefill_chunk):
                if not (self._goes_on(wanted) if start else wanted()):
                    break
                chunk = token_ids[start : start + self.prefill_chunk]
                out[start : start + len(chunk)] = self.runner.prefill(slot, chunk, start, len(chunk))
            return out
        finally:
            self.settle()

    def check_reading(self, reading: Reading[Result]) -> None:
        """Raises PromptError for a reading with bad ids, or more of them than can ever fit."""
        for ids in (reading.token_ids, *(branch.token_ids for branch in reading.branches)):
            check_ids(ids, self.runner.spec)
        self.scheduler.limits.check_positions(reading.positions)

    def read(
        self, readings: list[Reading[Result]], source: RowSource, wanted: Callable[[], bool] = lambda: True
    ) -> list[ReadingResult[Result]]:
        """Read the first of some readings, which were checked, in one batch; longest first is fastest.

        As many as slots and cache are free now, and as a run should have; where there are none, maybe no reading.
        Between two runs the requests that there are go on. The slots keep their memory until the next step, or
        `settle`. A reading gets the same bits in any batch.

        Raises what reductions raise.
        """
        self.scheduler.drop_done()
        self.scheduler.slots.give_back()
        batch = first_batch(readings, source.row_size, self.prefill_chunk, alone=not self.scheduler.slots.owners)
        slots = self.scheduler.borrow_slots([reading.positions for reading in batch])
        goes_on = functools.partial(self._goes_on, wanted)
        return read_batch(source, slots, batch[: len(slots)], self.prefill_chunk, goes_on)

    def _goes_on(self, wanted: Callable[[], bool]) -> bool:
        """Between two runs of a text that is read: let others decode and, where prompts arrive, go a step further.

        Returns whether the text is still ``wanted``.
        """
        self.decoding.step(self._prefill)
        if self.waiting or self.prefilling:
            self._step()
        return wanted()

    @property
    def _most_rows(self) -> int:
        """How many tokens a run of several prompts may have: few where others wait for it."""
        return self.prefill_chunk if self.running else max(self.prefill_chunk, MOST_ROWS)
