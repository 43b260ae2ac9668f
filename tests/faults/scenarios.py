"""What a program does with a model, in a few tokens each; and what must hold after whatever went wrong in it.

Knows models; knows nothing about how they are made to fail.
"""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import neort
from neort import GenerationConfig, Model
from neort.engine import Collector, Engine, EngineCore
from neort.kvcache import KVCache, PrefixCache

__all__ = ["SCENARIOS", "BrokenError", "Subject", "subjects"]

PROMPT = "It was a dark night and"
LONG = "The captain said nothing, but walked up and down the deck. " * 18  # more than a chunk of the prefill
PROMPTS = [PROMPT, "The captain", "Once upon a time there was a king who"]
PREFIX_BYTES = 3_000_000


class BrokenError(AssertionError):
    """Something that must hold does not."""


def _generate(model: Model) -> Any:
    return model.generate(PROMPT, max_new_tokens=3).token_ids


def _sample(model: Model) -> Any:
    return model.generate(PROMPT, max_new_tokens=4, do_sample=True, seed=7, repetition_penalty=1.2).token_ids


def _stream(model: Model) -> Any:
    return "".join(piece.text for piece in model.stream(PROMPT, max_new_tokens=3))


def _batch(model: Model) -> Any:
    return tuple(out.token_ids for out in model.generate(PROMPTS, max_new_tokens=3))


def _beams(model: Model) -> Any:
    outs = model.generate(PROMPT, max_new_tokens=4, num_beams=3, num_return_sequences=2, stop_strings=",")
    return tuple((out.token_ids, out.score) for out in outs)


def _guidance(model: Model) -> Any:
    out = model.generate(PROMPT, max_new_tokens=3, guidance_scale=2.0, negative_prompt=PROMPTS[1], logprobs=1)
    return out.token_ids, out.logprobs


def _several(model: Model) -> Any:
    """The same prompts, each with an end of its own: its tokens, or the error that ended it."""
    config = GenerationConfig(max_new_tokens=3)
    collectors = [Collector(model._encode(prompt), config, 0, model.tokenizer) for prompt in PROMPTS]
    try:
        for collector in collectors:
            model._engine.submit(collector.request)
        for collector in collectors:
            model._engine.next_event(collector.events)
    finally:
        for collector in collectors:
            model._engine.cancel(collector.request)
    return tuple(collector._error or tuple(collector.request.token_ids) for collector in collectors)


def _full_context(model: Model) -> Any:
    ids = list(range(5, 5 + model.spec.max_position_embeddings))
    return model.generate(ids, max_new_tokens=3, overflow="truncate_left").token_ids


def _prefix(model: Model) -> Any:
    with model.prefix(LONG) as prefix:
        out = model.generate(LONG + PROMPT, max_new_tokens=2)
        return out.token_ids, out.stats.reused_tokens > 0, len(prefix)


def _logits(model: Model) -> Any:
    return hashlib.sha256(model.logits(range(3, 40)).tobytes()).hexdigest()


SCENARIOS: dict[str, Callable[[Model], Any]] = {
    "generate": _generate,
    "sample": _sample,
    "stream": _stream,
    "batch": _batch,
    "beams": _beams,
    "guidance": _guidance,
    "several": _several,
    "full context": _full_context,
    "prefix": _prefix,
    "logits": _logits,
}


@dataclass
class Subject:
    """A model that is maltreated, and what its scenarios gave before."""

    name: str
    model: Model
    expected: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for scenario, run in SCENARIOS.items():
            self.expected[scenario] = run(self.model)

    def renew(self) -> None:
        """Give the model an engine, a cache and a thread that nothing has happened to, so that all of it happens."""
        core, session = self.model._engine.core, self.model._session
        self.model._engine.close()
        prefixes = PrefixCache(session, budget=PREFIX_BYTES, block_size=core.prefill_chunk)
        session._bound.clear()
        session._cache = KVCache(session.spec, session._cache.max_slots, session._cache.kv_cache)
        self.model._engine = Engine(EngineCore(session, speculate=core.decoding.speculate, prefixes=prefixes))

    def check(self, scenario: str) -> None:
        """Raises BrokenError where the scenario gives something else than at first, or something stays behind."""
        if (found := SCENARIOS[scenario](self.model)) != self.expected[scenario]:
            raise BrokenError(f"{scenario} gives {found!r}, at first {self.expected[scenario]!r}")
        gc.collect()
        engine = self.model._engine
        engine.settle()
        core = engine.core
        if engine.running or engine.waiting or core.scheduler.slots._used:
            raise BrokenError(
                f"{engine.running} run, {engine.waiting} wait, {core.scheduler.slots._used} slots are in use"
            )
        if core.prefixes and core.prefixes.nbytes > core.prefixes.budget:
            raise BrokenError(f"the prefix cache takes {core.prefixes.nbytes:,} bytes of {core.prefixes.budget:,}")


def subjects(folder: Path | None = None) -> list[Subject]:
    """Models with each kind of cache, without drafts, with copied ones, and with those of a model."""
    options: dict[str, dict[str, Any]] = {
        "plain": {},
        "prompt-lookup": {"draft": "prompt-lookup"},
        "int8 cache": {"kv_cache": "int8", "draft": "prompt-lookup"},
        "draft model": {"draft": neort.load(folder, num_threads=1).bundle.path},
    }
    shared: dict[str, Any] = {"num_threads": 1, "max_batch_size": 3, "prefix_cache_bytes": PREFIX_BYTES}
    return [Subject(name, neort.load(folder, **shared, **own)) for name, own in options.items()]
