"""Turns requests into tokens: one `step()` admits and prefills, decodes all running sequences together, and hands
out tokens.

Knows slots, logits and token ids; knows nothing about text or about onnxruntime.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..bundle import ModelSpec
from ..errors import NeortError, PromptError
from ..kvcache import Pin, PrefixCache, Rows
from ..speculative import Speculator
from .fair_lock import Turn
from .request import FinishReason, Request

__all__ = ["Engine", "MeasuredRunner", "Runner"]

Ids = NDArray[np.int64]
Logits = NDArray[np.float32]

PREFILL_CHUNK = 256  # faster than 128 and 512: see docs/design.md


class Runner(Protocol):
    """What the engine needs of a session; slots 0..n-1 hold the running sequences.

    `prefill` leaves other slots alone. `decode` of n sequences may overwrite what slot n holds, behind them.
    """

    spec: ModelSpec

    @property
    def max_batch_size(self) -> int: ...
    def reserve(self, slots: int, lengths: list[int]) -> None: ...
    def move(self, source: int, target: int, length: int) -> None: ...
    def prefill(self, slot: int, token_ids: Ids, start: int, keep: int) -> Logits: ...
    def decode(self, token_ids: Ids, lengths: NDArray[np.int32]) -> Logits: ...
    def verify(self, token_ids: Ids, start: int) -> Logits: ...


class MeasuredRunner(Runner, Protocol):
    """A runner that tells what its cache takes, and gives it back."""

    @property
    def bytes_per_position(self) -> int: ...
    def release(self, slot: int) -> None: ...


class Engine:
    """Runs any number of requests on one model, up to ``runner.max_batch_size`` at a time.

    Several threads may share an engine: each drives it for all, one step at a time and in turns.
    """

    def __init__(
        self,
        runner: MeasuredRunner,
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
        self.max_cache_bytes = max_cache_bytes
        self.prefill_chunk = prefill_chunk
        self.speculate = speculate
        self.prefixes = prefixes
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []  # the request at index i owns slot i
        self._used = 0  # slots that may hold memory
        self._turn = Turn()

    def check(self, request: Request) -> None:
        """Raises PromptError for a prompt that is empty, holds unknown ids, or does not fit.

        It does not fit when overflow is "error" and the context is too short, or when the request alone needs more
        cache than ``max_cache_bytes``.
        """
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

    def submit(self, request: Request) -> None:
        """Queue a request. Raises what `check` does."""
        self.check(request)
        if request.config.overflow == "truncate_left" and self._too_long(request):
            self._truncate(request)
        request.submitted = request.first_token = time.perf_counter()
        self.waiting.append(request)  # atomic: no need to wait for a turn

    def cancel(self, request: Request) -> None:
        """Drop a request that nobody waits for any more; a finished one is left alone.

        Never waits: sinks and the garbage collector, which closes dropped streams, may call it in the middle of a
        step. The slot is free at once, or when that step has ended.
        """
        request.done = True
        self._settle()

    def pin(self, pin: Pin, token_ids: Ids, read: Callable[[int, int], Rows], logits: Logits) -> None:
        """Put a prefix into the prefix cache whose rows and logits are known; see `PrefixCache.add`."""
        if self.prefixes:
            with self._turn:
                self.prefixes.add(token_ids, read, logits, pin)

    def release(self, pin: Pin) -> None:
        """Unpin a prefix. Never waits, as `cancel`."""
        if self.prefixes:
            self.prefixes.release(pin)
            self._settle()

    def step(self) -> None:
        """Prefill what fits, then decode one token for every running sequence."""
        with self._turn:
            self._step()

    def advance(self, request: Request) -> None:
        """One step, unless another thread's steps have finished the request meanwhile."""
        with self._turn:
            if not request.done:
                self._step()

    def logits(self, token_ids: Ids) -> Logits:
        """Logits of every position, float32 [T, V]. Raises PromptError for bad ids or too many of them."""
        spec = self.runner.spec
        check_ids(token_ids, spec)
        if len(token_ids) > spec.max_position_embeddings:
            raise PromptError(
                f"{len(token_ids)} tokens are more than the model's {spec.max_position_embeddings} positions; "
                "score the text in pieces"
            )
        with self._turn:
            self._drop_done()
            slot = len(self.running)
            if slot >= self.runner.max_batch_size:
                raise PromptError(f"all {slot} slots are generating; raise max_batch_size, or wait for a sequence")
            self._check_bytes(len(token_ids), f"{len(token_ids)} tokens")
            if not self._has_room(len(token_ids)):
                raise PromptError(
                    f"running sequences leave too little of max_cache_bytes {self.max_cache_bytes} for "
                    f"{len(token_ids)} tokens; wait for a sequence, or raise max_cache_bytes"
                )
            self._reserve(slot + 1)
            out = np.empty((len(token_ids), spec.vocab_size), np.float32)
            for start in range(0, len(token_ids), self.prefill_chunk):
                chunk = token_ids[start : start + self.prefill_chunk]
                out[start : start + len(chunk)] = self.runner.prefill(slot, chunk, start, len(chunk))
            self._release_idle()
            return out

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

    def _settle(self) -> None:
        """Free what was cancelled or unpinned, now or, if a step is under way, when it ends."""
        if self._turn.take_if_free():
            try:
                self._drop_done()
                self._release_idle()
            finally:
                self._turn.pass_on()

    def _release_idle(self) -> None:
        """Give idle slots' memory back, unless waiting requests are about to use it again; and unpinned prefixes'."""
        if self.prefixes:
            self.prefixes.trim()
        if self.waiting and self.max_cache_bytes is None:
            return
        if len(self.running) < self._used:
            for slot in range(len(self.running), self._used + 1):  # into the last one a decode may have written
                self.runner.release(slot)
            self._used = len(self.running)

    def _too_long(self, request: Request) -> bool:
        return len(request.context) > self.runner.spec.max_position_embeddings

    def _truncate(self, request: Request) -> None:
        """Drop the oldest tokens, so many that the missing ones fit, but never more than half the positions."""
        limit = self.runner.spec.max_position_embeddings
        missing = request.config.max_new_tokens - len(request.token_ids)
        request.context = request.context[-(limit - min(missing - 1, limit // 2)) :]
        request.speculator = None  # it followed the longer context

    def _reserve(self, slots: int) -> None:
        self.runner.reserve(slots, [request.cached for request in self.running])
        self._used = max(self._used, slots)

    def _admit(self) -> None:
        while self.waiting and len(self.running) < self.runner.max_batch_size:
            request = self.waiting[0]
            if not self._has_room(self._positions(request)):
                break
            if self._too_long(request):  # overflow="stop"
                self._finish(request, "length")
            else:
                slot = len(self.running)
                self._reserve(slot + 1)
                self._prefill(request, slot)
                self.running.append(request)
            self.waiting.popleft()
            self._sweep()

    def _step(self) -> None:
        self._drop_done()
        self._admit()
        self._decode()
        self._release_idle()

    def _drop_done(self) -> None:
        """Forget the requests that were cancelled since the last step."""
        for request in [request for request in self.waiting.copy() if request.done]:
            self.waiting.remove(request)
        self._sweep()

    def _prefill(self, request: Request, slot: int) -> None:
        """Run the context in chunks, behind what is kept of it; only the last one computes logits, of its end."""
        started = time.perf_counter()
        ids = np.asarray(request.context, np.int64)
        reused, logits = self.prefixes.restore(slot, ids) if self.prefixes else (0, None)
        for start in range(reused, len(ids), self.prefill_chunk):
            chunk = ids[start : start + self.prefill_chunk]
            last = start + len(chunk) == len(ids)
            rows = self.runner.prefill(slot, chunk, start, int(last))
            logits = rows[-1] if last else None
        assert logits is not None  # of a run, or kept
        request.cached = len(ids)
        if self.prefixes and not request.token_ids:  # a prompt; what goes on behind a full context is of no use later
            request.reused = reused
            self.prefixes.keep(slot, ids, logits, request.pin)
        request.prefill_seconds += time.perf_counter() - started
        self._hand_out(request, logits)

    def _decode(self) -> None:
        """One token for every running sequence; those at the end of the context are dealt with first."""
        limit = self.runner.spec.max_position_embeddings
        for slot, request in enumerate(self.running):
            if request.cached == limit:
                self._overflow(request, slot)
        self._sweep()
        if not self.running:
            return
        if len(self.running) == 1 and (drafted := self._draft(self.running[0])):
            self._verify(self.running[0], drafted)
        else:
            self._decode_all()
        self._sweep()

    def _draft(self, request: Request) -> list[int]:
        """Tokens that may come next; several sequences share a run's weights already, so only one alone has any."""
        if self.speculate is None:
            return []
        request.speculator = request.speculator or self.speculate()
        positions = self.runner.spec.max_position_embeddings - request.cached
        wanted = request.config.max_new_tokens - len(request.token_ids)
        return request.speculator.draft(request.context, min(positions, wanted) - 1, request.rehearse)

    def _verify(self, request: Request, drafted: list[int]) -> None:
        """Run the last token and the drafted ones; hand out tokens up to the first that was not drafted.

        The cache then holds rows of rejected tokens, beyond ``request.cached``, which the next run overwrites.
        """
        ids = np.array([request.context[-1], *drafted], np.int64)
        before = request.accepted
        request.drafted += len(drafted)
        logits = self.runner.verify(ids, request.cached)
        for row, expected in zip(logits, [*drafted, None], strict=True):
            request.cached += 1
            self._hand_out(request, row)
            if request.done or request.context[-1] != expected:
                break
            request.accepted += 1
        if request.speculator:
            request.speculator.learn(len(drafted), request.accepted - before)

    def _decode_all(self) -> None:
        last_ids = np.array([request.context[-1] for request in self.running], np.int64)
        lengths = np.array([request.cached for request in self.running], np.int32)
        logits = self.runner.decode(last_ids, lengths)
        for request, row in zip(self.running, logits, strict=True):
            request.cached += 1
            if not request.done:
                self._hand_out(request, row)

    def _overflow(self, request: Request, slot: int) -> None:
        """The context is full: stop, or drop the oldest tokens and prefill what is kept."""
        if request.config.overflow != "truncate_left":
            self._finish(request, "length")
            return
        self._truncate(request)
        self._prefill(request, slot)

    def _hand_out(self, request: Request, logits: Logits) -> None:
        """Choose the next token, pass it on, and end the request when it is complete."""
        try:
            token_id = request.choose(logits)
        except NeortError as error:
            request.sink.fail(error)
            request.done = True
            return
        if not request.token_ids:
            request.first_token = time.perf_counter()
        request.token_ids.append(token_id)
        request.context.append(token_id)
        stopped = request.sink.push(token_id)
        if stopped or token_id in request.config.eos_token_ids:
            self._finish(request, "stop")
        elif len(request.token_ids) == request.config.max_new_tokens:
            self._finish(request, "length")

    def _finish(self, request: Request, reason: FinishReason) -> None:
        request.finished = True
        request.sink.finish(reason, request.stats())
        request.done = True  # last: other threads look at it without the lock

    def _sweep(self) -> None:
        """Give the slots of finished requests to the last ones, so that running sequences stay contiguous."""
        for slot in reversed(range(len(self.running))):
            if self.running[slot].done:
                self._keep_turn(self.running[slot], slot)
                last = self.running.pop()
                if slot < len(self.running):
                    self.runner.move(len(self.running), slot, last.cached)
                    self.running[slot] = last

    def _keep_turn(self, request: Request, slot: int) -> None:
        """Keep a finished text with its prompt, where steps give the bits of a prefill: the next prompt may go on."""
        if self.prefixes and self.prefixes.step == 1 and request.finished and request.cached > len(request.prompt_ids):
            self.prefixes.keep(slot, np.asarray(request.context[: request.cached], np.int64), None)


def check_ids(token_ids: Ids, spec: ModelSpec) -> None:
    """Raises PromptError unless ``token_ids`` is a non-empty vector of ids of the model's vocabulary."""
    if len(token_ids) == 0:
        raise PromptError('the prompt is empty; give at least one token, for example "<|endoftext|>"')
    low, high = int(token_ids.min()), int(token_ids.max())
    if low < 0 or high >= spec.vocab_size:
        raise PromptError(
            f"token id {low if low < 0 else high} is outside the vocabulary of {spec.vocab_size} tokens "
            f"(0 to {spec.vocab_size - 1}); was the text encoded with another tokenizer?"
        )
