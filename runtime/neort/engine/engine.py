"""Turns requests into tokens: one `step()` schedules requests on slots, runs the model for them, and hands out tokens.

Knows runs and logits; knows nothing about text or about onnxruntime.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np

from ..arrays import Ids, Logits, Rows
from ..errors import ConfigError
from ..kvcache import Pin, PrefixCache
from ..runner import PREFILL_CHUNK, ModelRunner
from ..speculative import Speculator
from .fair_lock import FairLock
from .request import Request
from .scheduler import Scheduler, check_ids

__all__ = ["Engine"]


class Engine:
    """Runs any number of requests on one model, up to ``runner.max_batch_size`` at a time.

    Several threads may share an engine: each drives it for all, one step at a time and in the order in which they ask.
    """

    def __init__(
        self,
        runner: ModelRunner,
        *,
        prefill_chunk: int = PREFILL_CHUNK,
        max_cache_bytes: int | None = None,
        speculate: Callable[[], Speculator] | None = None,
        prefixes: PrefixCache | None = None,
    ) -> None:
        """``max_cache_bytes`` limits the cache; None means no limit. ``speculate`` makes what drafts for a sequence, as
        long as it is the only one that runs. ``prefixes``, a cache with blocks of ``prefill_chunk`` tokens, keeps
        prompts for later ones that begin alike.
        """
        self.runner = runner
        self.prefill_chunk = prefill_chunk
        self.speculate = speculate
        self.prefixes = prefixes
        self.scheduler = Scheduler(runner, max_cache_bytes=max_cache_bytes, prefixes=prefixes)
        self._lock = FairLock()
        self._unsettled = False  # whether something was cancelled or unpinned that may still hold memory

    @property
    def waiting(self) -> deque[Request]:
        """The requests that wait for a slot or for room in the cache, oldest first."""
        return self.scheduler.waiting

    @property
    def running(self) -> list[Request]:
        """The requests that are being decoded; the one at index i owns slot i."""
        return self.scheduler.running

    def check(self, request: Request) -> None:
        """Check that a request can be served at all; `submit` does not check it again.

        Raises PromptError for a prompt that is empty, holds unknown ids, or does not fit: when overflow is "error" and
        the context is too short, or when the request alone needs more cache than ``max_cache_bytes``.
        """
        self.scheduler.check(request)

    def submit(self, request: Request) -> None:
        """Queue a request. Raises what `check` does, unless the request was checked. Never waits."""
        self.scheduler.submit(request)

    def cancel(self, request: Request) -> None:
        """Drop a request that nobody waits for any more; a finished one is left alone.

        Never waits: sinks and the garbage collector, which closes dropped streams, may call it in the middle of a
        step. The slot is free at once, or when that step has ended.
        """
        request.done = True
        self._unsettled = True
        self._settle()

    def pin(self, pin: Pin, token_ids: Ids, read: Callable[[int, int], Rows], logits: Logits) -> None:
        """Put a prefix into the prefix cache whose rows and logits are known; see `PrefixCache.add`."""
        if self.prefixes:
            with self._locked():
                self.prefixes.add(token_ids, read, logits, pin)

    def release(self, pin: Pin) -> None:
        """Unpin a prefix. Never waits, as `cancel`."""
        if self.prefixes:
            self.prefixes.release(pin)
            self._unsettled = True
            self._settle()

    def step(self) -> None:
        """Prefill what fits, then decode one token for every running sequence."""
        with self._locked():
            self._step()

    def advance(self, request: Request) -> None:
        """Take one step, unless another thread's steps have finished the request meanwhile."""
        with self._locked():
            if not request.done:
                self._step()

    def logits(self, token_ids: Ids) -> Logits:
        """Return the logits after every position of ``token_ids``, int64 [T]: float32 [T, V].

        Raises PromptError for bad ids, or more of them than can ever fit; BusyError where the running sequences leave
        no slot or too little of ``max_cache_bytes`` now.
        """
        spec = self.runner.spec
        check_ids(token_ids, spec)
        self.scheduler.check_positions(len(token_ids))
        with self._locked():
            self.scheduler.drop_done()
            slot = self.scheduler.borrow_slot(len(token_ids))
            out = np.empty((len(token_ids), spec.vocab_size), np.float32)
            for start in range(0, len(token_ids), self.prefill_chunk):
                chunk = token_ids[start : start + self.prefill_chunk]
                out[start : start + len(chunk)] = self.runner.prefill(slot, chunk, start, len(chunk))
            self.scheduler.release_idle()
            return out

    def _step(self) -> None:
        scheduler = self.scheduler
        scheduler.drop_done()
        while (request := scheduler.next_request()) is not None:
            self._prefill(request, len(scheduler.running))
            scheduler.start(request)
        for slot, request in scheduler.restarting():
            self._prefill(request, slot)
        scheduler.sweep()
        if scheduler.running:
            self._decode(scheduler.running)
        self._drop_done()

    def _prefill(self, request: Request, slot: int) -> None:
        """Run the context in chunks, after what is stored of it; only the last one computes logits, of its end.

        Ends early, without a token, where the request is cancelled meanwhile.
        """
        started = time.perf_counter()
        ids = np.asarray(request.context, np.int64)
        reused, logits = self.prefixes.restore(slot, ids) if self.prefixes else (0, None)
        for start in range(reused, len(ids), self.prefill_chunk):
            if request.done:
                request.cached = start
                return
            chunk = ids[start : start + self.prefill_chunk]
            last = start + len(chunk) == len(ids)
            rows = self.runner.prefill(slot, chunk, start, int(last))
            logits = rows[-1] if last else None
        assert logits is not None  # of a run, or stored
        request.cached = len(ids)
        if self.prefixes and not request.token_ids:  # a prompt; what goes on after a full context is of no use later
            request.reused = reused
            self.prefixes.store(slot, ids, logits, request.pin)
        request.prefill_seconds += time.perf_counter() - started
        request.take(logits)

    def _decode(self, running: list[Request]) -> None:
        """One token for each of the sequences; several for a single one, where drafts are right."""
        if len(running) == 1 and (drafted := self._draft(running[0])):
            self._extend(running[0], drafted)
            return
        last_ids = np.array([request.context[-1] for request in running], np.int64)
        lengths = np.array([request.cached for request in running], np.int32)
        logits = self.runner.decode(last_ids, lengths)
        for request, row in zip(running, logits, strict=True):
            request.cached += 1
            request.take(row)

    def _draft(self, request: Request) -> list[int]:
        """Tokens that may come next; several sequences share a run's weights already, so only one alone has any.

        The request fails where one of its processors cannot be copied, as a draft model needs it.
        """
        if self.speculate is None:
            return []
        request.speculator = request.speculator or self.speculate()
        positions = self.runner.spec.max_position_embeddings - request.cached
        wanted = request.config.max_new_tokens - len(request.token_ids)
        try:
            return request.speculator.draft(request.context, min(positions, wanted) - 1, request.fork)
        except ConfigError as error:  # a processor that cannot be copied
            request.fail(error)
            return []

    def _extend(self, request: Request, drafted: list[int]) -> None:
        """Run the last token and the drafted ones; hand out tokens up to the first that was not drafted.

        The cache then holds rows of rejected tokens, beyond ``request.cached``, which the next run overwrites.
        """
        ids = np.array([request.context[-1], *drafted], np.int64)
        before = request.accepted
        request.drafted += len(drafted)
        logits = self.runner.extend(ids, request.cached)
        for row, expected in zip(logits, [*drafted, None], strict=True):
            request.cached += 1
            request.take(row)
            if request.done or request.context[-1] != expected:
                break
            request.accepted += 1
        if request.speculator:
            request.speculator.learn(len(drafted), request.accepted - before)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock; whoever has held it settles what came too late for what it did."""
        try:
            with self._lock:
                yield
        finally:
            self._settle()

    def _settle(self) -> None:
        """Free what was cancelled or unpinned, now or, if the lock is taken, when its owner releases it.

        Nothing is missed: who cancels says so before he tries the lock, and its owner looks after he has released it.
        """
        while self._unsettled and self._lock.try_acquire():
            try:
                self._unsettled = False
                self._drop_done()
            finally:
                self._lock.release()

    def _drop_done(self) -> None:
        self.scheduler.drop_done()
        self.scheduler.release_idle()
