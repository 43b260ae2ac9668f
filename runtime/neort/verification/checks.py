"""`neort.check`: every graph of a bundle against the manifest, against its golden logits and against itself."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..arrays import Ids
from ..backend import DECODERS, DecoderSession
from ..bundle import Bundle, ModelSpec
from ..errors import ConfigError, UnsupportedError
from ..hub import find_bundle
from ..kvcache import CACHE_TYPES, CacheType
from .differences import batch_difference, chunk_differences, golden_difference, prompts_difference
from .golden import Golden
from .stored import Stored, read_stored
from .window import window_to_pass

__all__ = ["Check", "check"]

EXTRA_TOKENS = 40
WHOSE: dict[CacheType, str] = {"fp32": "", "int8": "int8 cache: "}
UNVERIFIED = "the bundle was exported without verification and stores none; neort-export verify adds them"
APART = "its export found that prompts get other bits together, so they are run one by one"
EARLIER = "the bundle is of an earlier version and stores none for this graph; neort-export verify adds them"


@dataclass(frozen=True)
class Check:
    """One line of `neort verify`: what was checked, the figure, its limit (None: reported only).

    ``skipped`` says why something could not be checked; the value is NaN then. It is empty where something was.
    """

    name: str
    value: float
    limit: float | None
    skipped: str = ""

    @property
    def passed(self) -> bool:
        """Whether the value is a finite number within the limit, or nothing could be checked."""
        if self.skipped:
            return True
        return math.isfinite(self.value) and (self.limit is None or self.value <= self.limit)


def check(path: str | os.PathLike[str], *, kv_cache: CacheType | None = None) -> list[Check]:
    """Compare a bundle with its manifest, its golden logits and itself in batches and chunks.

    ``path`` is its folder, or the name that it was pulled by, as `neort.load` takes it.

    ``kv_cache`` names the one graph to check, by the type of its cache. None means every graph that neort runs: the one
    for an fp32 cache, and the one for an int8 cache where the bundle has it and this onnxruntime can run it. The other
    files, model.onnx among them, are compared with the manifest.

    What cannot be checked is told in a check that is ``skipped``: golden logits of a bundle that was exported without
    verification, those of the int8 cache's graph in a bundle of an earlier version, and that graph where onnxruntime
    cannot run it. With an int8 cache chunks must not change any bit.

    Raises BundleError for damaged files, or without a graph for the ``kv_cache`` that was asked for; UnsupportedError
    for an onnxruntime that cannot run it; ConfigError for another kind of cache. Figures beyond their limits are
    returned as failed checks.
    """
    if kv_cache is not None and kv_cache not in CACHE_TYPES:
        raise ConfigError(f"kv_cache is {kv_cache!r}; it must be None or one of {', '.join(CACHE_TYPES)}")
    bundle = Bundle(find_bundle(path), check_weights=True)
    stored = read_stored(bundle)
    if kv_cache is not None:
        return list(_check_graph(bundle, stored, kv_cache))
    checks = list(_check_graph(bundle, stored, "fp32"))
    if DECODERS["int8"] in bundle.file_names:
        try:
            checks += _check_graph(bundle, stored, "int8")
        except UnsupportedError as error:
            checks.append(Check(f"{WHOSE['int8']}logits", math.nan, None, str(error)))
    return checks


def _check_graph(bundle: Bundle, stored: Stored | None, kv_cache: CacheType) -> Iterator[Check]:
    session = DecoderSession(bundle, kv_cache=kv_cache)
    golden = stored.golden.get(kv_cache) if stored else None
    yield _golden_check(session, golden, stored, kv_cache)
    text = golden or (stored.golden.get("fp32") if stored else None)
    ids = text.token_ids if text else _any_ids(bundle.spec)
    largest, _ = chunk_differences(session, ids)
    chunk_limit = text.tolerance if text else None
    if session.prefix_granularity == 1:
        chunk_limit = 0.0
    whose = WHOSE[kv_cache]
    yield Check(f"{whose}alone against in a batch, max abs difference", batch_difference(session, ids), 0.0)
    yield _prompts_check(bundle, session, ids, whose)
    yield Check(f"{whose}prompt in chunks against at once, max abs difference", largest, chunk_limit)


def _golden_check(session: DecoderSession, golden: Golden | None, stored: Stored | None, kv_cache: CacheType) -> Check:
    name = f"{WHOSE[kv_cache]}golden logits, max abs difference"
    if golden is None:
        return Check(name, math.nan, None, EARLIER if stored else UNVERIFIED)
    return Check(name, golden_difference(session, golden), golden.tolerance)


def _prompts_check(bundle: Bundle, session: DecoderSession, ids: Ids, whose: str) -> Check:
    name = f"{whose}prompts in one run against alone, max abs difference"
    if not bundle.prompts_together:
        return Check(name, math.nan, None, APART)
    return Check(name, prompts_difference(session, ids), 0.0)


def _any_ids(spec: ModelSpec) -> Ids:
    """Tokens to compare a model with itself on, past twice the window where the context allows it."""
    count = min(spec.max_position_embeddings, 2 * window_to_pass(spec) + EXTRA_TOKENS)
    return np.random.default_rng(0).integers(0, spec.vocab_size, count)
