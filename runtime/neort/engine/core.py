"""Turns requests into tokens: one `step()` schedules requests on slots, runs the model for them, and hands out tokens.

A step is all or nothing for each request: it takes its token, or it fails and the others go on as they would have. So
whatever a run, a processor or the system's memory does, what is left is sound.

Knows runs and logits; knows nothing about threads, text or onnxruntime.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from ..arrays import Ids, Logits
from ..kvcache import PrefixCache
from ..runner import PREFILL_CHUNK, ModelRunner
from ..speculative import Speculator
from .figures import Counts, EngineFigures
from .group import ChargedTo, Group, Sequence, fail
from .reading import Reading, ReadingResult, RowSource, first_batch, read_batch
from .request import Request
from .scheduler import Scheduler, check_ids

__all__ = ["EngineCore"]

Slots = dict[Sequence, int]
Result = TypeVar("Result")


class EngineCore:
    """Runs any number of requests on one model, up to ``runner.max_batch_size`` at a time.

    Not thread-safe, but for `check` and `submit`: see `Engine`, which gives it a thread.
    """

    def __init__(
        self,
        runner: ModelRunner,
        *,
        prefill_chunk: int = PREFILL_CHUNK,
        max_cache_bytes: int | None = None,
        max_queue: int | None = None,
        speculate: Callable[[], Speculator] | None = None,
        prefixes: PrefixCache | None = None,
    ) -> None:
        """``max_cache_bytes`` limits the cache, ``max_queue`` the requests that wait; None means no limit.

        ``speculate`` makes what drafts for a sequence, as long as it is the only one that runs. ``prefixes``, a cache
        with blocks of ``prefill_chunk`` tokens, keeps prompts for later ones that begin alike.
        """
        self.runner = runner
        self.prefill_chunk = prefill_chunk
        self.speculate = speculate
        self.prefixes = prefixes
        self.counts = Counts()
        self.scheduler = Scheduler(runner, max_cache_bytes=max_cache_bytes, max_queue=max_queue, prefixes=prefixes)

    @property
    def busy(self) -> bool:
        """Whether requests wait or run."""
        return bool(self.waiting or self.scheduler.slots)

    @property
    def waiting(self) -> deque[Group]:
        """The requests that wait for a slot or for room in the cache, oldest first."""
        return self.scheduler.waiting

    @property
    def running(self) -> list[Group]:
        """The requests that are being decoded, in the order of their first slots."""
        return self.scheduler.running

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
        """Queue a request. Raises what `check` does, unless the request was checked. Never waits."""
        self.scheduler.submit(request)

    def cancel(self, request: Group) -> None:
        """Drop a request that nobody waits for any more; a finished one is left alone.

        Any thread may call it, at any time: the next step, or `settle`, frees the slot.
        """
        request.done = True

    def settle(self) -> None:
        """Free what was cancelled."""
        self.scheduler.drop_done()
        self.scheduler.release_idle()

    def step(self) -> None:
        """Prefill what fits, then decode one token for every running sequence.

        A request whose processors, prefill, decode run or memory fails ends with that error, which its sink gets. What
        belongs to no request, such as Ctrl-C, is raised; then another step may follow, or `fail_all`.
        """
        scheduler = self.scheduler
        scheduler.drop_done()
        while (request := scheduler.next_request()) is not None:
            with ChargedTo(request):
                scheduler.reserve_next()
                self._run_alone(request, _numbered(request.sequences, len(scheduler.slots)))
                scheduler.start(request)
        for request in scheduler.full():
            with ChargedTo(request):
                scheduler.truncate(request)
                if isinstance(request, Request):
                    request.speculator = None  # it followed the longer context
                self._run_alone(request, _numbered(scheduler.slots))
        scheduler.sweep()
        if scheduler.slots:
            self._decode(scheduler.slots)
        self.settle()

    def fail_all(self, error: BaseException) -> None:
        """End every request with an error."""
        self.counts.failed = error
        for request in [*self.running, *self.waiting.copy()]:
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
        self.scheduler.check_positions(len(token_ids))
        self.scheduler.drop_done()
        try:
            slot = self.scheduler.borrow_slot(len(token_ids))
            out = np.empty((len(token_ids), spec.vocab_size), np.float32)
            for start in range(0, len(token_ids), self.prefill_chunk):
                if not wanted():
                    break
                chunk = token_ids[start : start + self.prefill_chunk]
                out[start : start + len(chunk)] = self.runner.prefill(slot, chunk, start, len(chunk))
            return out
        finally:
            self.scheduler.release_idle()

    def check_reading(self, reading: Reading[Result]) -> None:
        """Raises PromptError for a reading with bad ids, or more of them than can ever fit."""
        for ids in (reading.token_ids, *(branch.token_ids for branch in reading.branches)):
            check_ids(ids, self.runner.spec)
        self.scheduler.check_positions(reading.positions)

    def read(
        self, readings: list[Reading[Result]], source: RowSource, wanted: Callable[[], bool] = lambda: True
    ) -> list[ReadingResult[Result]]:
        """Read the first of some readings, which were checked, in one batch; longest first is fastest.

        As many as slots and cache are free now, and as a run should have; where there are none, maybe no reading.
        The slots keep their memory until the next step, or `settle`. A reading gets the same bits in any batch.

        Raises what reductions raise.
        """
        self.scheduler.drop_done()
        batch = first_batch(readings, source.row_size, self.prefill_chunk, alone=not self.running)
        slots = self.scheduler.borrow_slots([reading.positions for reading in batch])
        return read_batch(source, slots, batch[: len(slots)], self.prefill_chunk, wanted) if slots else []

    def _run_alone(self, request: Group, slots: Slots) -> None:
        """Run what is not cached of a request's contexts, each by itself, and let the request take what follows.

        Ends early where the request is cancelled meanwhile.
        """
        rows = []
        for sequence in request.active:
            row = self._fill(sequence, slots[sequence])
            if row is None:
                return
            rows.append(row)
        self._take(request, rows, slots)

    def _fill(self, sequence: Sequence, slot: int) -> Logits | None:
        """Run the context in chunks, after what is cached or stored of it; returns the logits [V] of its end.

        Only the last chunk computes logits, of its end, unless those of a prompt are asked for. None: the request was
        cancelled meanwhile.
        """
        started, request = time.perf_counter(), sequence.group
        ids = np.asarray(sequence.context, np.int64)
        is_prompt = sequence.cached == 0 and not request.new_tokens
        scored = is_prompt and sequence is request.sequences[0] and request.config.prompt_logprobs is not None
        reused, logits = sequence.cached, None
        if self.prefixes and sequence.cached == 0 and not scored:
            reused, logits = self.prefixes.restore(slot, ids)
        for start in range(reused, len(ids), self.prefill_chunk):
            if request.done:
                sequence.cached = start
                return None
            chunk = ids[start : start + self.prefill_chunk]
            last = start + len(chunk) == len(ids)
            rows = self.runner.prefill(slot, chunk, start, len(chunk) if scored else int(last))
            if scored:
                request.note_prompt(rows, start)
            logits = rows[-1] if last else None
        assert logits is not None  # of a run, or stored
        sequence.cached = len(ids)
        if self.prefixes and is_prompt:  # what goes on after a full context is of no use later
            self.prefixes.store(slot, ids, logits, request.pin if sequence is request.sequences[0] else None)
        if is_prompt and sequence is request.sequences[0]:
            request.reused = reused
        request.prefill_seconds += time.perf_counter() - started
        return logits

    def _take(self, request: Group, rows: list[Logits], slots: Slots) -> None:
        """Let a request decide on its next tokens, and its sequences' rows follow."""
        for copy in request.take(rows):
            self.runner.move(slots[copy.source], slots[copy.target], copy.stop, copy.start)

    def _decode(self, running: list[Sequence]) -> None:
        """One token for each of the sequences; several for a single one, where drafts are right."""
        request = running[0].group
        if len(running) == 1 and isinstance(request, Request):
            with ChargedTo(request):
                self._decode_alone(request)
            return
        slots = _numbered(running)
        requests = self.running
        try:
            last_ids = np.array([sequence.context[-1] for sequence in running], np.int64)
            lengths = np.array([sequence.cached for sequence in running], np.int32)
            logits = self.runner.decode(last_ids, lengths)
        except Exception:  # whose it is shows when each is run by itself, with the same bits
            for request in requests:
                with ChargedTo(request):
                    self._run_alone(request, slots)
            return
        for request in requests:
            try:
                active = request.active
                for sequence in active:
                    sequence.cached += 1
                self._take(request, [logits[slots[sequence]] for sequence in active], slots)
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
            _advance(request, self.runner.decode(np.array(sequence.context[-1:]), lengths)[0])

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
        logits = self.runner.extend(ids, sequence.cached)
        for row, expected in zip(logits, [*drafted, None], strict=True):
            _advance(request, row)
            if request.done or sequence.context[-1] != expected:
                break
            request.accepted += 1
        if request.speculator:
            request.speculator.learn(len(drafted), request.accepted - before)


def _advance(request: Request, row: Logits) -> None:
    """Note that the last token is in the cache, and let the request choose the next one from ``row`` [V]."""
    request.sequences[0].cached += 1
    request.take([row])


def _numbered(sequences: list[Sequence], first: int = 0) -> Slots:
    """The slots of sequences that lie side by side."""
    return {sequence: slot for slot, sequence in enumerate(sequences, first)}
