"""Decides what runs: which requests are let in, in which slots, and within how much cache.

Knows lengths, slots and bytes; knows nothing about logits or text, and runs no model.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np

from ..arrays import Ids
from ..bundle import ModelSpec
from ..errors import BusyError, PromptError
from ..kvcache import PrefixCache
from ..runner import ModelRunner
from .request import Request

__all__ = ["Scheduler", "check_ids"]


class Scheduler:
    """The requests that wait and those that run; the request at index i of ``running`` owns slot i.

    Not thread-safe, but for `check` and `submit`. Whatever is raised in the middle of a method, its next call finds
    requests and slots that belong together.
    """

    def __init__(
        self, runner: ModelRunner, *, max_cache_bytes: int | None = None, prefixes: PrefixCache | None = None
    ) -> None:
        """``max_cache_bytes`` limits the cache, None means no limit; ``prefixes`` keeps finished sequences."""
        self.runner = runner
        self.max_cache_bytes = max_cache_bytes
        self.prefixes = prefixes
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []
        self._used = 0  # slots that may hold memory

    def check(self, request: Request) -> None:
        """Check that a request can be served at all; one that was checked is not checked again.

        Raises PromptError for a prompt that is empty, holds unknown ids, or does not fit: when overflow is "error" and
        the context is too short, or when the request alone needs more cache than ``max_cache_bytes``.
        """
        if request.checked:
            return
        check_ids(request.prompt_ids, self.runner.spec)
        limit, config = self.runner.spec.max_position_embeddings, request.config
        length = len(request.prompt_ids)
        needed = length + config.max_new_tokens - 1  # the last new token is never fed
        if config.overflow == "error" and needed > limit:
            raise PromptError(
                f"the prompt has {length} tokens and max_new_tokens is {config.max_new_tokens}, which needs {needed} "
                f"positions; the model has {limit}. Shorten the prompt, lower max_new_tokens, or set overflow to "
                '"stop" or "truncate_left"'
            )
        self._check_bytes(self._positions(request), f"{length} prompt tokens and {config.max_new_tokens} new ones")
        request.checked = True

    def submit(self, request: Request) -> None:
        """Queue a request. Raises what `check` does. Any thread may call it."""
        self.check(request)
        if request.config.overflow == "truncate_left" and self._too_long(request):
            self.truncate(request)
        request.submitted = request.first_token = time.perf_counter()
        self.waiting.append(request)  # atomic

    def next_request(self) -> Request | None:
        """Return the next request to start.

        None: no request waits, or none may start before a running one ends. Whoever gets one calls `reserve_next`,
        fills the slot after those of the running requests, and calls `start`; until then it waits. Cancelled ones leave
        the queue.
        """
        while self.waiting and len(self.running) < self.runner.max_batch_size:
            request = self.waiting[0]
            if request.done:
                self.waiting.popleft()
                continue
            if not self._has_room(self._positions(request)):
                return None
            if not self._too_long(request):
                return request
            request.finish("length")  # overflow="stop"
            self.waiting.popleft()
            self.sweep()
        return None

    def reserve_next(self) -> None:
        """Make room for one more running request. Raises OutOfMemoryError where the system refuses it."""
        self._reserve(len(self.running) + 1)

    def start(self, request: Request) -> None:
        """Let the request that `next_request` returned run, now that its slot holds its context."""
        self.running.append(request)
        self.waiting.popleft()
        self.sweep()

    def full(self) -> Iterator[tuple[int, Request]]:
        """Finish the running requests whose context is full, or yield them with their slots, if they may go on.

        Those must be cut by `truncate`, and their slots filled anew.
        """
        for slot, request in enumerate(self.running):
            if request.done or request.cached < self.runner.spec.max_position_embeddings:
                continue
            if request.config.overflow == "truncate_left":
                yield slot, request
            else:
                request.finish("length")

    def truncate(self, request: Request) -> None:
        """Drop the oldest tokens, so many that the missing ones fit, but never more than half the positions."""
        limit = self.runner.spec.max_position_embeddings
        missing = request.config.max_new_tokens - len(request.token_ids)
        request.context = request.context[-(limit - min(missing - 1, limit // 2)) :]
        request.speculator = None  # it followed the longer context

    def sweep(self) -> None:
        """Give the slots of requests that are done to the last ones, so that running sequences stay contiguous."""
        for slot in reversed(range(len(self.running))):
            if self.running[slot].done:
                self._store_finished(self.running[slot], slot)
                *others, last = self.running
                if slot < len(others):
                    self.runner.move(len(others), slot, last.cached)
                    others[slot] = last
                self.running = others  # at once: no request is missing or there twice in between

    def drop_done(self) -> None:
        """Forget the requests that are done: those that were cancelled while they waited, too."""
        for request in [request for request in self.waiting.copy() if request.done]:
            self.waiting.remove(request)
        self.sweep()

    def forget_done(self) -> None:
        """As `drop_done`, where all that run are done: no slot is stored or moved."""
        self.running = [request for request in self.running if not request.done]
        self.drop_done()

    def release_idle(self) -> None:
        """Give idle slots' memory back, unless waiting requests are about to use it again."""
        if self.waiting and self.max_cache_bytes is None:
            return
        if len(self.running) < self._used:
            for slot in range(len(self.running), self._used + 1):  # into the last one a decode may have written
                self.runner.release(slot)
            self._used = len(self.running)

    def check_positions(self, positions: int) -> None:
        """Raises PromptError where so many tokens can never be scored: too few positions, or ``max_cache_bytes``."""
        limit = self.runner.spec.max_position_embeddings
        if positions > limit:
            raise PromptError(
                f"{positions} tokens are more than the model's {limit} positions; score the text in pieces"
            )
        self._check_bytes(positions, f"{positions} tokens")

    def borrow_slot(self, positions: int) -> int:
        """Return a slot after those of the running requests, for ``positions`` tokens, until the next step.

        Raises BusyError where the running requests leave none, or too little of ``max_cache_bytes``.
        """
        slot = len(self.running)
        if slot >= self.runner.max_batch_size:
            raise BusyError(f"all {slot} slots are generating; raise max_batch_size, or wait for a sequence")
        if not self._has_room(positions):
            raise BusyError(
                f"running sequences leave too little of max_cache_bytes {self.max_cache_bytes} for "
                f"{positions} tokens; wait for a sequence, or raise max_cache_bytes"
            )
        self._reserve(slot + 1)
        return slot

    def borrow_slots(self, positions: Sequence[int]) -> range:
        """Return slots after those of the running requests, until the next step, for sequences of ``positions`` each.

        They are for the first ones, as many as there are slots and room in the cache now; maybe for none. The cache
        is counted as if all were as long as the longest, as far as a run pads them.
        """
        first, count = len(self.running), min(len(positions), self.runner.max_batch_size - len(self.running))
        while count > 0 and not self._has_room(count * max(positions[:count])):
            count -= 1
        if count > 0:
            self._reserve(first + count)
        return range(first, first + count)

    def _positions(self, request: Request) -> int:
        """Positions of the cache that a request may come to use."""
        return min(len(request.prompt_ids) + request.config.max_new_tokens, self.runner.spec.max_position_embeddings)

    def _has_room(self, positions: int) -> bool:
        """Whether the cache limit allows ``positions`` more beside the running sequences."""
        total = positions + sum(self._positions(request) for request in self.running)
        return self.max_cache_bytes is None or total * self.runner.bytes_per_position <= self.max_cache_bytes

    def _check_bytes(self, positions: int, what: str) -> None:
        needed = positions * self.runner.bytes_per_position
        if self.max_cache_bytes is not None and needed > self.max_cache_bytes:
            raise PromptError(
                f"{what} need {needed} bytes of cache; max_cache_bytes is {self.max_cache_bytes}. Shorten the prompt, "
                "lower max_new_tokens, or raise max_cache_bytes"
            )

    def _too_long(self, request: Request) -> bool:
        return len(request.context) > self.runner.spec.max_position_embeddings

    def _reserve(self, slots: int) -> None:
        self._used = max(self._used, slots)
        self.runner.reserve(slots, [request.cached for request in self.running])

    def _store_finished(self, request: Request, slot: int) -> None:
        """Store a finished sequence with its prompt, where decode steps give the bits of a prefill.

        A prompt that goes on after it, as a conversation's next one does, then starts from there.
        """
        whole = request.finished and request.cached > len(request.prompt_ids)
        if self.prefixes and self.prefixes.granularity == 1 and whole:
            request.finished = False  # once, whatever is raised: the slot is about to be another's
            self.prefixes.store(slot, np.asarray(request.context[: request.cached], np.int64), None)


def check_ids(token_ids: Ids, spec: ModelSpec) -> None:
    """Raises PromptError unless ``token_ids`` is a non-empty vector of ids of the model's vocabulary."""
    if len(token_ids) == 0:
        raise PromptError('the prompt is empty; give at least one token, for example "<|endoftext|>"')
    low, high = int(token_ids.min()), int(token_ids.max())
    if low < 0 or high >= spec.vocab_size:
        raise PromptError(
            f"token id {low if low < 0 else high} is outside the vocabulary of {spec.vocab_size} tokens "
            f"(0 to {spec.vocab_size - 1}); leave it out: it is of another tokenizer, or an added token that the model "
            "has no row for"
        )
