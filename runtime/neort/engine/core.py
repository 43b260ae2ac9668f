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
from ..runner import IDLE, ModelRunner, prefill_chunk_of
from ..speculative import Speculator
from .figures import Counts, EngineFigures
from .group import ChargedTo, Group, Sequence, fail
from .limits import check_ids
from .prefill import Prefill
from .reading import MOST_ROWS, Reading, ReadingResult, RowSource, first_batch, read_batch
from .request import Request
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
        self.speculate = speculate
        self.prefixes = prefixes
        self.counts = Counts()
        self.scheduler = Scheduler(runner, max_cache_bytes=max_cache_bytes, max_queue=max_queue, prefixes=prefixes)
        self._prefill = Prefill(runner, self.scheduler, self.prefill_chunk, prefixes, self.counts, self._take)

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
        self._decode()
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
        self._decode()
        if self.waiting or self.prefilling:
            self._step()
        return wanted()

    @property
    def _most_rows(self) -> int:
        """How many tokens a run of several prompts may have: few where others wait for it."""
        return self.prefill_chunk if self.running else max(self.prefill_chunk, MOST_ROWS)

    def _take(self, request: Group, rows: list[Logits]) -> None:
        """Let a request decide on its next tokens, and its sequences' rows follow."""
        before, places = request.new_tokens, self.scheduler.slots.places
        for copy in request.take(rows):
            self.runner.move(places[copy.source], places[copy.target], copy.stop, copy.start)
        self.counts.generated_tokens += request.new_tokens - before

    def _restart_full(self) -> None:
        """End the requests whose context is full, or have them read again what is left when the oldest is dropped."""
        for request in self.scheduler.full():
            with ChargedTo(request):
                self.scheduler.restart(request)
                if isinstance(request, Request):
                    request.speculator = None  # it followed the longer context
        self.scheduler.drop_done()

    def _decode(self) -> None:
        """One token for each running sequence; several for a single one, where drafts are right."""
        self._restart_full()
        places = self.scheduler.slots.places
        running = {sequence: slot for sequence, slot in places.items() if not sequence.group.filling}
        requests = self.running
        if list(running.values()) == [0] and isinstance(requests[0], Request):
            with ChargedTo(requests[0]):
                self._decode_alone(requests[0])
        elif running:
            self._decode_together(running, requests)

    def _decode_together(self, running: dict[Sequence, int], requests: list[Group]) -> None:
        try:
            token_ids = np.zeros(max(running.values()) + 1, np.int64)
            lengths = np.full(len(token_ids), IDLE, np.int32)
            for sequence, slot in running.items():
                token_ids[slot], lengths[slot] = sequence.context[-1], sequence.cached
            logits = self.runner.decode(token_ids, lengths)
        except Exception:  # whose it is shows when each is run by itself, with the same bits
            for request in requests:
                with ChargedTo(request):
                    request.filling = True
                    self._prefill.finish(request)
            return
        for request in requests:
            try:
                active = request.active
                for sequence in active:
                    sequence.cached += 1
                self._take(request, [logits[running[sequence]] for sequence in active])
            except BaseException as error:  # as `ChargedTo`, which takes longer
                fail(request, error)

    def _decode_alone(self, request: Request) -> None:
        drafted = self._draft(request)
        if request.done:
            return
        if drafted:
            self._extend(request, drafted)
        else:
            (sequence,) = request.sequences
            lengths = np.array([sequence.cached], np.int32)
            self._advance(request, self.runner.decode(np.array(sequence.context[-1:]), lengths)[0])

    def _draft(self, request: Request) -> list[int]:
        """Tokens that may come next; several sequences share a run's weights already, so only one alone has any.

        Raises ConfigError where one of the request's processors cannot be copied, as a draft model needs it.
        """
        if self.speculate is None:
            return []
        (sequence,) = request.sequences
        request.speculator = request.speculator or self.speculate()
        positions = self.runner.spec.max_position_embeddings - sequence.cached
        wanted = request.config.max_new_tokens - len(request.token_ids)
        return request.speculator.draft(sequence.context, min(positions, wanted) - 1, request.fork)

    def _extend(self, request: Request, drafted: list[int]) -> None:
        """Run the last token and the drafted ones; hand out tokens up to the first that was not drafted.

        The cache then holds rows of rejected tokens, beyond ``cached``, which the next run overwrites.
        """
        (sequence,) = request.sequences
        ids = np.array([sequence.context[-1], *drafted], np.int64)
        before = request.accepted
        request.drafted += len(drafted)
        self.counts.drafted += len(drafted)
        logits = self.runner.extend(ids, sequence.cached)
        for row, expected in zip(logits, [*drafted, None], strict=True):
            self._advance(request, row)
            if request.done or sequence.context[-1] != expected:
                break
            request.accepted += 1
            self.counts.accepted += 1
        if request.speculator:
            request.speculator.learn(len(drafted), request.accepted - before)

    def _advance(self, request: Request, row: Logits) -> None:
        """Note that the last token is in the cache, and let the request choose the next one from ``row`` [V]."""
        request.sequences[0].cached += 1
        self._take(request, [row])
