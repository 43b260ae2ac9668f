"""Decides what runs: which requests are let in, in which slots, and within how much cache.

A request is a `Group`: it gets a slot for each of its sequences, all at once or none, and gives them back likewise.

Knows lengths, slots and bytes; knows nothing about logits or text, and runs no model.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..arrays import Ids
from ..bundle import ModelSpec
from ..errors import BusyError, ConfigError, PromptError
from ..kvcache import PrefixCache
from ..runner import ModelRunner
from .group import Group, Sequence

__all__ = ["Scheduler", "check_ids"]


class Scheduler:
    """The requests that wait and those that run; the sequence at index i of ``slots`` owns slot i.

    Not thread-safe, but for `check` and `submit`. Whatever is raised in the middle of a method, its next call finds
    requests and slots that belong together.
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
        self.max_cache_bytes = max_cache_bytes
        self.max_queue = max_queue
        self.prefixes = prefixes
        self.waiting: deque[Group] = deque()
        self.slots: list[Sequence] = []
        self._used = 0  # slots that may hold memory

    @property
    def running(self) -> list[Group]:
        """The requests that run, in the order of their first slots."""
        return list(dict.fromkeys(sequence.group for sequence in self.slots))

    def check(self, request: Group) -> None:
        """Check that a request can be served at all; one that was checked is not checked again.

        Raises PromptError for a prompt that is empty, holds unknown ids, or does not fit: when overflow is "error" and
        the context is too short, or when the request alone needs more cache than ``max_cache_bytes``; ConfigError where
        it needs more slots than there are.
        """
        if request.checked:
            return
        for sequence in request.sequences:
            check_ids(sequence.prompt_ids, self.runner.spec)
            self._check_length(request, sequence)
        self._check_slots(request)
        length, count = len(request.prompt_ids), len(request.sequences)
        times = f", in {count} sequences," if count > 1 else ""
        self._check_bytes(
            self._positions(request), f"{length} prompt tokens and {request.config.max_new_tokens} new ones{times}"
        )
        request.checked = True

    def submit(self, request: Group) -> None:
        """Queue a request. Any thread may call it.

        Raises what `check` does, and BusyError where `max_queue` requests wait beside those that find a free slot.
        """
        self.check(request)
        self._check_queue()
        if request.config.overflow == "truncate_left" and self._too_long(request):
            self.truncate(request)
        request.submitted = request.first_token = time.perf_counter()
        self.waiting.append(request)  # atomic

    def load(self) -> dict[str, Any]:
        """How much there is to do now, by the names of `EngineFigures`. Any thread may ask."""
        running = self.running
        return {
            "running": sum(len(request.sequences) for request in running),
            "waiting": sum(len(request.sequences) for request in self.waiting.copy()),
            "prefilling": 0,
            "cache_bytes": sum(self._positions(request) for request in running) * self.runner.bytes_per_position,
            "max_cache_bytes": self.max_cache_bytes,
        }

    def next_request(self) -> Group | None:
        """Return the next request to start.

        None: no request waits, or none may start before a running one ends. Whoever gets one calls `reserve_next`,
        fills the slots after those of the running requests, and calls `start`; until then it waits. Cancelled ones
        leave the queue.
        """
        while self.waiting:
            request = self.waiting[0]
            if request.done:
                self.waiting.popleft()
                continue
            slots = len(self.slots) + len(request.sequences)
            if slots > self.runner.max_batch_size or not self._has_room(self._positions(request)):
                return None
            if not self._too_long(request):
                return request
            request.finish("length")  # overflow="stop"
            self.waiting.popleft()
            self.sweep()
        return None

    def reserve_next(self) -> None:
        """Make room for the next request. Raises OutOfMemoryError where the system refuses it."""
        self._reserve(len(self.slots) + len(self.waiting[0].sequences))

    def start(self, request: Group) -> None:
        """Let the request that `next_request` returned run, now that its slots hold what they are to."""
        self.slots = [*self.slots, *request.sequences]  # at once
        self.waiting.popleft()
        self.sweep()

    def full(self) -> Iterator[Group]:
        """Finish the running requests of which a context is full, or yield them, if they may go on.

        Those must be cut by `truncate`, and run anew.
        """
        limit = self.runner.spec.max_position_embeddings
        if not any(sequence.cached >= limit for sequence in self.slots):
            return
        for request in self.running:
            if request.done or not any(sequence.cached >= limit for sequence in request.sequences):
                continue
            if request.config.overflow == "truncate_left":
                yield request
            else:
                request.finish("length")

    def truncate(self, request: Group) -> None:
        """Drop the oldest tokens of contexts that are too long: so many that the missing ones fit.

        But never more than half the positions.
        """
        limit = self.runner.spec.max_position_embeddings
        missing = request.config.max_new_tokens - request.new_tokens
        for sequence in request.sequences:
            if sequence.cached >= limit or len(sequence.context) > limit:
                sequence.context = sequence.context[-(limit - min(missing - 1, limit // 2)) :]
                sequence.cached = 0

    def sweep(self) -> None:
        """Give the slots of requests that are done to the last ones, so that running sequences stay contiguous."""
        for slot in reversed(range(len(self.slots))):
            if self.slots[slot].group.done:
                self._store_finished(self.slots[slot], slot)
                *others, last = self.slots
                if slot < len(others):
                    self.runner.move(len(others), slot, last.cached)
                    others[slot] = last
                self.slots = others  # at once: no sequence is missing or there twice in between

    def drop_done(self) -> None:
        """Forget the requests that are done: those that were cancelled while they waited, too."""
        for request in [request for request in self.waiting.copy() if request.done]:
            self.waiting.remove(request)
        self.sweep()

    def forget_done(self) -> None:
        """As `drop_done`, where all that run are done: no slot is stored or moved."""
        self.slots = [sequence for sequence in self.slots if not sequence.group.done]
        self.drop_done()

    def release_idle(self) -> None:
        """Give idle slots' memory back, unless waiting requests are about to use it again."""
        if self.waiting and self.max_cache_bytes is None:
            return
        if len(self.slots) < self._used:
            for slot in range(len(self.slots), self._used + 1):  # into the last one a decode may have written
                self.runner.release(slot)
            self._used = len(self.slots)

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
        slot = len(self.slots)
        if slot >= self.runner.max_batch_size:
            raise BusyError(f"all {slot} slots are generating; raise max_batch_size, or wait for a sequence")
        if not self._has_room(positions):
            raise BusyError(
                f"running sequences leave too little of max_cache_bytes {self.max_cache_bytes} for "
                f"{positions} tokens; wait for a sequence, or raise max_cache_bytes"
            )
        self._reserve(slot + 1)
        return slot

    def borrow_slots(self, positions: list[int]) -> range:
        """Return slots after those of the running requests, until the next step, for sequences of ``positions`` each.

        They are for the first ones, as many as there are slots and room in the cache now; maybe for none. The cache
        is counted as if all were as long as the longest, as far as a run pads them.
        """
        first, count = len(self.slots), min(len(positions), self.runner.max_batch_size - len(self.slots))
        while count > 0 and not self._has_room(count * max(positions[:count])):
            count -= 1
        if count > 0:
            self._reserve(first + count)
        return range(first, first + count)

    def _positions(self, request: Group) -> int:
        """Positions of the cache that a request may come to use."""
        limit, new = self.runner.spec.max_position_embeddings, request.config.max_new_tokens
        return sum(min(len(sequence.prompt_ids) + new, limit) for sequence in request.sequences)

    def _has_room(self, positions: int) -> bool:
        """Whether the cache limit allows ``positions`` more beside the running sequences."""
        total = positions + sum(self._positions(request) for request in self.running)
        return self.max_cache_bytes is None or total * self.runner.bytes_per_position <= self.max_cache_bytes

    def _check_queue(self) -> None:
        """Raises BusyError where the queue is full."""
        free = self.runner.max_batch_size - len(self.slots)
        if self.max_queue is not None and len(self.waiting) >= self.max_queue + free:
            raise BusyError(
                f"{len(self.waiting)} requests wait already, and max_queue is {self.max_queue}; try again later, or "
                "raise max_queue or max_batch_size of neort.load"
            )

    def _check_length(self, request: Group, sequence: Sequence) -> None:
        """Raises PromptError where a prompt and what follows it need more positions than there are."""
        limit, config = self.runner.spec.max_position_embeddings, request.config
        length = len(sequence.prompt_ids)
        needed = length + config.max_new_tokens - 1  # the last new token is never fed
        if config.overflow == "error" and needed > limit:
            prompt = "prompt" if sequence is request.sequences[0] else "negative prompt"
            raise PromptError(
                f"the {prompt} has {length} tokens and max_new_tokens is {config.max_new_tokens}, which needs {needed} "
                f"positions; the model has {limit}. Shorten the prompt, lower max_new_tokens, or set overflow to "
                '"stop" or "truncate_left"'
            )

    def _check_slots(self, request: Group) -> None:
        """Raises ConfigError where a request needs more slots at once than there are."""
        count, most = len(request.sequences), self.runner.max_batch_size
        if count > most:
            beams = request.config.num_beams
            option = f"num_beams is {beams}" if beams > 1 else f"guidance_scale is {request.config.guidance_scale}"
            raise ConfigError(
                f"{option}, which needs {count} sequences at once; max_batch_size is {most}. Lower the first, or raise "
                "max_batch_size of neort.load"
            )

    def _check_bytes(self, positions: int, what: str) -> None:
        needed = positions * self.runner.bytes_per_position
        if self.max_cache_bytes is not None and needed > self.max_cache_bytes:
            raise PromptError(
                f"{what} need {needed} bytes of cache; max_cache_bytes is {self.max_cache_bytes}. Shorten the prompt, "
                "lower max_new_tokens, or raise max_cache_bytes"
            )

    def _too_long(self, request: Group) -> bool:
        limit = self.runner.spec.max_position_embeddings
        return any(len(sequence.context) > limit for sequence in request.sequences)

    def _reserve(self, slots: int) -> None:
        self._used = max(self._used, slots)
        self.runner.reserve(slots, [sequence.cached for sequence in self.slots])

    def _store_finished(self, sequence: Sequence, slot: int) -> None:
        """Store a finished sequence with its prompt, where decode steps give the bits of a prefill.

        A prompt that goes on after it, as a conversation's next one does, then starts from there.
        """
        request = sequence.group
        whole = request.finished and sequence is request.sequences[0] and sequence.cached > len(request.prompt_ids)
        if self.prefixes and self.prefixes.granularity == 1 and whole:
            request.finished = False  # once, whatever is raised: the slot is about to be another's
            self.prefixes.store(slot, np.asarray(sequence.context[: sequence.cached], np.int64), None)


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
