"""Decides what runs: which requests are let in, in which slots, within how much cache, and whose prompt is next.

A request is a `Group`: it gets a slot for each of its sequences, all at once or none, and gives them back likewise.

Knows lengths, slots and bytes; knows nothing about logits or text, and runs no model.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from ..errors import BusyError
from ..kvcache import PrefixCache
from ..runner import ModelRunner
from .group import Group
from .limits import Limits
from .slots import Slots

__all__ = ["Scheduler"]


class Scheduler:
    """The requests that wait, those whose prompts are being read, and those that run.

    Who is let in: the lowest priority first, and of equal ones the oldest. Who finds no slot or no room holds up those
    behind, so nobody is overtaken for ever but by lower priorities.

    Whose prompt is next, of those let in, in the same order: turns go to prompts that one run ends and to longer ones
    alternately, where there are both. So a short prompt waits for those before it and as many runs of long ones, and a
    long one gets every second run, however many short ones come.

    Not thread-safe, but for `check`, `submit` and `load`. Whatever is raised in the middle of a method, its next call
    finds requests and slots that belong together.
    """

    def __init__(
        self,
        runner: ModelRunner,
        *,
        max_cache_bytes: int | None = None,
        max_queue: int | None = None,
        prefixes: PrefixCache | None = None,
    ) -> None:
        """``max_cache_bytes`` limits the cache, ``max_queue`` the requests that wait for a slot to become free.

        None means no limit; ``prefixes`` keeps finished sequences.
        """
        self.runner = runner
        self.limits = Limits(runner, max_cache_bytes)
        self.slots = Slots(runner, prefixes)
        self.max_queue = max_queue
        self.waiting: deque[Group] = deque()
        self._numbers = itertools.count()
        self._last_was_long = False

    @property
    def running(self) -> list[Group]:
        """The requests that are decoded, in the order of their first slots."""
        return [group for group in self.slots.groups if not group.filling]

    @property
    def prompts(self) -> list[Group]:
        """The requests whose prompts are being read, in the order in which they are served."""
        return sorted((group for group in self.slots.groups if group.filling and not group.done), key=_order)

    def check(self, request: Group) -> None:
        """Check that a request can be served at all; one that was checked is not checked again.

        Raises PromptError for a prompt that is empty, holds unknown ids, or does not fit: when overflow is "error" and
        the context is too short, or when the request alone needs more cache than ``max_cache_bytes``; ConfigError where
        it needs more slots than there are.
        """
        self.limits.check(request)

    def submit(self, request: Group) -> None:
        """Queue a request. Any thread may call it.

        Raises what `check` does, and BusyError where ``max_queue`` requests wait beside those that find a free slot.
        """
        self.check(request)
        self._check_queue()
        if request.config.overflow == "truncate_left" and self.limits.too_long(request):
            self._truncate(request)
        request.submitted = request.first_token = time.perf_counter()
        request.number = next(self._numbers)
        self.waiting.append(request)  # atomic

    def load(self) -> dict[str, Any]:
        """How much there is to do now, by the names of `EngineFigures`. Any thread may ask."""
        groups = self.slots.groups
        positions = sum(self.limits.positions(request) for request in groups)
        return {
            "running": sum(len(request.sequences) for request in groups if not request.filling),
            "waiting": sum(len(request.sequences) for request in self.waiting.copy()),
            "prefilling": sum(len(request.sequences) for request in groups if request.filling),
            "cache_bytes": positions * self.runner.bytes_per_position,
            "max_cache_bytes": self.limits.max_cache_bytes,
        }

    def next_request(self) -> Group | None:
        """Return the next request to be let in by `admit`; until then it waits.

        None: no request waits, or the next one needs a slot or room that a running one has.
        """
        while self.waiting:
            request = min(self.waiting.copy(), key=_order)
            if request.done or self.slots.hold(request):
                self.waiting.remove(request)
            elif len(request.sequences) > self.slots.free or not self._has_room(self.limits.positions(request)):
                return None
            elif not self.limits.too_long(request):
                return request
            else:
                request.finish("length")  # overflow="stop"
        return None

    def admit(self, request: Group) -> None:
        """Give the request that `next_request` returned its slots. Raises OutOfMemoryError where there is no memory."""
        self.slots.take(request.sequences)
        self.waiting.remove(request)

    def next_prompt(self, chunk: int) -> Group | None:
        """Return whose prompt has its turn, in runs of ``chunk`` tokens; None where none is being read."""
        prompts = self.prompts
        long = [prompt for prompt in prompts if _tokens_left(prompt) > chunk]
        short = [prompt for prompt in prompts if _tokens_left(prompt) <= chunk]
        self._last_was_long = bool(long) and not (short and self._last_was_long)
        return next(iter(long if self._last_was_long else short), None)

    def full(self) -> Iterator[Group]:
        """Finish the running requests of which a context is full, or yield them, if they may go on by `restart`."""
        limit = self.runner.spec.max_position_embeddings
        for request in self.running:
            if request.done or not any(sequence.cached >= limit for sequence in request.sequences):
                continue
            if request.config.overflow == "truncate_left":
                yield request
            else:
                request.finish("length")

    def restart(self, request: Group) -> None:
        """Drop the oldest tokens of contexts that are too long; they are to be read again."""
        request.filling = True  # first: with some of its contexts cut, it is no running one any more
        self._truncate(request)

    def end_late(self) -> None:
        """Finish requests without a token that have taken as long as they may."""
        for request in [*self.waiting.copy(), *self.prompts]:
            if request.is_late and not request.done:
                request.finish("length")

    def drop_done(self) -> None:
        """Forget the requests that are done: those that were cancelled while they waited, too."""
        for request in [request for request in self.waiting.copy() if request.done]:
            self.waiting.remove(request)
        self.slots.free_done()

    def forget_done(self) -> None:
        """As `drop_done`, where all are done: no slot is stored."""
        self.slots.forget_done()
        self.drop_done()

    def release_idle(self) -> None:
        """Give idle slots' memory back, unless waiting requests are about to use it again."""
        if not self.waiting or self.limits.max_cache_bytes is not None:
            self.slots.release_idle()

    def borrow_slot(self, positions: int) -> int:
        """Return a slot for ``positions`` tokens, until `Slots.give_back`.

        Raises BusyError where the other requests leave none, or too little of ``max_cache_bytes``.
        """
        most = self.limits.max_cache_bytes
        if not self.slots.idle:
            taken = self.runner.max_batch_size
            raise BusyError(f"all {taken} slots are generating; raise max_batch_size, or wait for a sequence")
        if not self._has_room(positions):
            raise BusyError(
                f"running sequences leave too little of max_cache_bytes {most} for "
                f"{positions} tokens; wait for a sequence, or raise max_cache_bytes"
            )
        return self.slots.borrow([positions]).start

    def borrow_slots(self, positions: list[int]) -> range:
        """Return slots side by side, until `Slots.give_back`, for sequences of ``positions`` each.

        They are for the first ones, as many as there are slots and room in the cache now; maybe for none. The cache
        is counted as if all were as long as the longest, as far as a run pads them.
        """
        count = min(len(positions), len(self.slots.idle))
        while count > 0 and not self._has_room(count * max(positions[:count])):
            count -= 1
        return self.slots.borrow(positions[: max(count, 0)])

    def _has_room(self, positions: int) -> bool:
        """Whether the cache limit allows ``positions`` more beside the sequences that have slots."""
        taken = sum(self.limits.positions(request) for request in self.slots.groups)
        return self.limits.allow(positions + taken + sum(self.slots.borrowed.values()))

    def _check_queue(self) -> None:
        """Raises BusyError where the queue is full."""
        if self.max_queue is not None and len(self.waiting) >= self.max_queue + self.slots.free:
            raise BusyError(
                f"{len(self.waiting)} requests wait already, and max_queue is {self.max_queue}; try again later, or "
                "raise max_queue or max_batch_size of neort.load"
            )

    def _truncate(self, request: Group) -> None:
        """Drop the oldest tokens of contexts that are too long: so many that the missing ones fit.

        But never more than half the positions.
        """
        limit = self.runner.spec.max_position_embeddings
        missing = request.config.max_new_tokens - request.new_tokens
        for sequence in request.sequences:
            if sequence.cached >= limit or len(sequence.context) > limit:
                sequence.context = sequence.context[-(limit - min(missing - 1, limit // 2)) :]
                sequence.cached = 0


def _order(request: Group) -> tuple[int, int]:
    return request.config.priority, request.number


def _tokens_left(request: Group) -> int:
    """How many tokens of a request's contexts are to be run."""
    return sum(len(sequence.context) - sequence.cached for sequence in request.active)
