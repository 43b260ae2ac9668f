"""What stands in for a session and for a reader: every property of the engine in milliseconds.

`FakeRunner` checks what a session cannot: that a slot is reserved before it is used, that positions follow each
other, and that none lies beyond the context.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any

import numpy as np

from neort.arrays import Ids, Lengths, Logits, Rows
from neort.bundle import ModelSpec
from neort.engine import EngineCore, FinishReason, Request, Stats
from neort.generation import GenerationConfig, TokenChooser
from neort.runner import IDLE
from patience import PATIENCE

VOCAB = 19
LIMIT = 32
CHUNK = 4
POISON = VOCAB - 1  # a context that starts with it gives NaN


def logits_of(context: Sequence[int]) -> Logits:
    """Logits [V] after a context; every token and its place count."""
    if context[0] == POISON:
        return np.full(VOCAB, np.nan, np.float32)
    key = functools.reduce(lambda key, token: (key * 31 + token + 1) % 10_007, context, 7)
    logits = 3 * np.cos((np.arange(VOCAB) + 1) * (0.37 + key))
    logits[POISON] = -50
    return np.asarray(logits, np.float32)


class FakeRunner:
    """A runner that keeps each slot's tokens in a list and writes down every call."""

    prefix_granularity: int | None = None

    def __init__(self, max_batch_size: int = 4, limit: int = LIMIT) -> None:
        self.spec = ModelSpec(
            vocab_size=VOCAB,
            hidden_size=8,
            num_layers=2,
            num_heads=2,
            head_dim=4,
            max_position_embeddings=limit,
            window_size=8,
            attention_layers=("global", "local"),
        )
        self.max_batch_size = max_batch_size
        self.slots: list[list[int]] = []
        self.calls: list[tuple[Any, ...]] = []
        self.before_prefill: Callable[[], None] = lambda: None
        self.before_decode: Callable[[], None] = lambda: None
        self.before_release: Callable[[], None] = lambda: None

    def reserve(self, slots: int, lengths: list[int]) -> None:
        assert slots <= self.max_batch_size
        if slots > len(self.slots):  # new memory, into which only the named lengths are copied
            kept = [slot[:length] for slot, length in zip(self.slots, lengths, strict=False)]
            self.slots = kept + [[] for _ in range(slots - len(kept))]

    @property
    def bytes_per_position(self) -> int:
        return 10

    def release(self, slot: int) -> None:
        self.before_release()
        if slot < len(self.slots):
            self.slots[slot] = []

    def read(self, slot: int, start: int, stop: int) -> Rows:
        assert len(self.slots[slot]) >= stop
        cells = np.array(self.slots[slot][start:stop]).reshape(1, -1, 1)
        return {"cells": cells, "padding": np.zeros((1, stop - start, self.bytes_per_position - 8), np.int8)}

    def write(self, slot: int, start: int, rows: Rows) -> None:
        cells = rows["cells"].reshape(-1).tolist()
        self.calls.append(("write", slot, start, len(cells)))
        self._place(slot, cells, start)

    def move(self, source: int, target: int, length: int, start: int = 0) -> None:
        self.calls.append(("move", source, target, length, *([start] if start else [])))
        assert len(self.slots[source]) >= length
        assert len(self.slots[target]) >= start
        self.slots[target] = self.slots[target][:start] + self.slots[source][start:length]

    def prefill(self, slot: int, token_ids: Ids, start: int, logits_to_keep: int) -> Logits:
        self.calls.append(("prefill", slot, start, len(token_ids), logits_to_keep))
        self.before_prefill()
        self._append(slot, token_ids.tolist(), start)
        end = start + len(token_ids)
        rows = [logits_of(self.slots[slot][:stop]) for stop in range(end - logits_to_keep + 1, end + 1)]
        return np.array(rows, np.float32).reshape(logits_to_keep, VOCAB)

    def prefill_prompts(self, slot: int, prompts: Sequence[Ids], logits_to_keep: int) -> Logits:
        self.calls.append(("prefill_prompts", slot, [len(prompt) for prompt in prompts], logits_to_keep))
        self.before_prefill()
        longest = max(len(prompt) for prompt in prompts)
        logits = np.full((len(prompts), longest, VOCAB), np.nan, np.float32)
        for i, prompt in enumerate(prompts):
            self._append(slot + i, prompt.tolist(), 0)
            logits[i, : len(prompt)] = [logits_of(self.slots[slot + i][: j + 1]) for j in range(len(prompt))]
        own = [row[max(0, len(ids) - logits_to_keep) : len(ids)] for row, ids in zip(logits, prompts, strict=True)]
        nothing = np.full((logits_to_keep, VOCAB), np.nan, np.float32)
        return np.stack([np.concatenate([nothing[len(rows) :], rows]) for rows in own])

    def decode(self, token_ids: Ids, lengths: Lengths) -> Logits:
        self.calls.append(("decode", len(token_ids)))
        self.before_decode()
        logits = np.full((len(token_ids), VOCAB), np.nan, np.float32)
        for slot, (token_id, length) in enumerate(zip(token_ids.tolist(), lengths.tolist(), strict=True)):
            if length != IDLE:
                self._append(slot, [token_id], length)
                logits[slot] = logits_of(self.slots[slot])
        return logits

    def extend(self, token_ids: Ids, start: int) -> Logits:
        self.calls.append(("extend", start, len(token_ids)))
        self._append(0, token_ids.tolist(), start)
        return np.stack([logits_of(self.slots[0][: start + i + 1]) for i in range(len(token_ids))])

    def runs(self, kind: str) -> list[tuple[Any, ...]]:
        """The calls of one kind, without their names."""
        return [call[1:] for call in self.calls if call[0] == kind]

    def _append(self, slot: int, token_ids: list[int], start: int) -> None:
        self._place(slot, token_ids, start)

    def _place(self, slot: int, cells: list[int], start: int) -> None:
        assert len(self.slots[slot]) >= start
        assert start + len(cells) <= self.spec.max_position_embeddings
        self.slots[slot] = self.slots[slot][:start] + cells


class Sink:
    """Keeps what a request hands out."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at = stop_at
        self.token_ids: list[int] = []
        self.results: list[tuple[FinishReason, Stats]] = []
        self.errors: list[BaseException] = []
        self.events: SimpleQueue[None] = SimpleQueue()
        self.request: Request | None = None
        self.done_when_told: list[bool] = []

    @property
    def reason(self) -> FinishReason:
        """How the request finished; it must have done so exactly once."""
        ((reason, _),) = self.results
        return reason

    def push(self, token_id: int) -> bool:
        self.token_ids.append(token_id)
        return len(self.token_ids) == self.stop_at

    def go_on(self) -> None:
        pass

    def finish(self, reason: FinishReason, stats: Stats) -> None:
        self.results.append((reason, stats))
        self._note_done()

    def fail(self, error: BaseException) -> None:
        self.errors.append(error)
        self._note_done()

    def _note_done(self) -> None:
        assert self.request is not None
        self.done_when_told.append(self.request.done)
        self.events.put(None)


def make(
    prompt: Sequence[int],
    *,
    stop_at: int | None = None,
    chooser: TokenChooser | None = None,
    negative_ids: Ids | None = None,
    **options: Any,
) -> tuple[Request, Sink]:
    sink = Sink(stop_at)
    config = GenerationConfig(**options)
    request = Request(np.array(prompt, np.int64), config, sink, chooser=chooser, negative_ids=negative_ids)
    sink.request = request
    return request, sink


def submit(engine: EngineCore, prompt: Sequence[int], **options: Any) -> tuple[Request, Sink]:
    request, sink = make(prompt, **options)
    engine.submit(request)
    return request, sink


def run_threads(*targets: Callable[[], object]) -> None:
    """Run all at once; the first exception that one of them raised is raised here."""
    errors: list[BaseException] = []

    def guarded(target: Callable[[], object]) -> None:
        try:
            target()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(target,), daemon=True) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=PATIENCE)
    assert not any(thread.is_alive() for thread in threads)
    if errors:
        raise errors[0]


def drive(engine: EngineCore, *requests: Request) -> None:
    for request in requests:
        while not request.done:
            engine.step()


def alone(prompt: Sequence[int], **options: Any) -> Sink:
    """The result of a request that has an engine to itself."""
    engine = EngineCore(FakeRunner(max_batch_size=1), prefill_chunk=CHUNK)
    request, sink = submit(engine, prompt, **options)
    drive(engine, request)
    return sink
