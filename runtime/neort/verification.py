"""Checks that a bundle still computes what it computed when it was exported, and that batching changes nothing.

Needs no torch: the exporter compares with torch and stores figures and golden logits in verification.json.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .arrays import Doubles, Floats, Ids
from .backend import DecoderSession
from .bundle import Bundle
from .engine import EngineCore
from .errors import BundleError
from .generation import log_softmax
from .kvcache import CacheType
from .runner import ModelRunner

__all__ = [
    "Check",
    "batch_difference",
    "check",
    "chunk_differences",
    "golden_difference",
    "record_golden",
]

VERIFICATION = "verification.json"
GOLDEN_KEYS = {"token_ids", "positions", "top_ids", "top_logits", "log_sum_exp", "tolerance"}
TOP = 16  # golden logits per position
SINGLE_STEPS = 16  # tokens run one by one when chunking is checked
ODD_CHUNK = 37
BATCH_STEPS = 4
EXTRA_TOKENS = 40


@dataclass(frozen=True)
class Check:
    """One line of `neort verify`: what was checked, the figure, its limit (None: reported only)."""

    name: str
    value: float
    limit: float | None

    @property
    def passed(self) -> bool:
        """Whether the value is a number within the limit."""
        return self.limit is None or self.value <= self.limit


def check(path: str | os.PathLike[str], *, kv_cache: CacheType = "fp32") -> list[Check]:
    """Compare a bundle with its manifest, its golden logits and itself in batches and chunks.

    A bundle that was exported without verification has no golden logits, and golden logits are those of an fp32 cache;
    the rest is checked. With an int8 cache chunks must not change any bit.

    Raises BundleError for damaged files, or without a graph for ``kv_cache``; UnsupportedError for an onnxruntime that
    cannot run it. Figures beyond their limits are returned as failed checks.
    """
    bundle = Bundle(path, check_weights=True)
    golden = _stored_golden(bundle)
    session = DecoderSession(bundle, kv_cache=kv_cache)
    ids = np.array(golden["token_ids"], np.int64) if golden else _any_ids(bundle)
    largest, _ = chunk_differences(session, ids)
    chunk_limit = golden["tolerance"] if golden else None
    if session.prefix_granularity == 1:
        chunk_limit = 0.0
    checks = [
        Check("alone against in a batch, max abs difference", batch_difference(session, ids), 0.0),
        Check("prompt in chunks against at once, max abs difference", largest, chunk_limit),
    ]
    if golden and kv_cache == "fp32":
        difference = golden_difference(session, golden)
        checks.insert(0, Check("golden logits, max abs difference", difference, golden["tolerance"]))
    return checks


def _stored_golden(bundle: Bundle) -> Mapping[str, Any] | None:
    """The golden logits; None in a bundle that was exported without verification."""
    if VERIFICATION not in bundle.file_names:
        return None
    golden = bundle.read_json(VERIFICATION).get("golden")
    if not isinstance(golden, Mapping) or not GOLDEN_KEYS.issubset(golden):
        raise BundleError(f"{bundle.path / VERIFICATION} holds no golden logits; export the bundle again")
    return golden


def _any_ids(bundle: Bundle) -> Ids:
    """Tokens to compare a model with itself on, past twice the window where the context allows it."""
    spec = bundle.spec
    count = min(spec.max_position_embeddings, 2 * spec.window_size + EXTRA_TOKENS)
    return np.random.default_rng(0).integers(0, spec.vocab_size, count)


def record_golden(logits: Floats, token_ids: Ids, positions: Sequence[int], tolerance: float) -> dict[str, Any]:
    """Return what verification.json stores of ``logits`` [n, V] at n positions: the largest, and the log-sum-exp."""
    top = np.argsort(-logits, axis=-1, kind="stable")[:, :TOP]
    return {
        "token_ids": token_ids.tolist(),
        "positions": list(positions),
        "top_ids": top.tolist(),
        "top_logits": [[float(x) for x in row] for row in np.take_along_axis(logits, top, axis=-1)],
        "log_sum_exp": [float(x) for x in _log_sum_exp(logits)],
        "tolerance": tolerance,
    }


def golden_difference(runner: ModelRunner, golden: Mapping[str, Any]) -> float:
    """Return the largest absolute difference of the stored logits and log-sum-exp to those of now; inf for NaN."""
    logits = EngineCore(runner).logits(np.array(golden["token_ids"], np.int64))[golden["positions"]]
    now = np.take_along_axis(logits, np.array(golden["top_ids"], np.int64), axis=-1)
    if not np.isfinite(logits).all():
        return float("inf")
    differences = [now - np.array(golden["top_logits"]), _log_sum_exp(logits) - np.array(golden["log_sum_exp"])]
    return _finite(max(float(np.abs(d).max()) for d in differences))


def batch_difference(runner: ModelRunner, token_ids: Ids) -> float:
    """Return the largest absolute difference of decoded logits between sequences together and each alone.

    The sequences are prefixes of ``token_ids`` of different lengths, each continued by a few of its tokens. 0 is
    identity.
    """
    count = len(token_ids)
    steps = min(BATCH_STEPS, count // 4)
    lengths = [max(1, count // 4), max(1, count // 2), count - steps]
    lengths = lengths[: runner.max_batch_size]
    last, longest = len(lengths) - 1, lengths[-1]
    runner.reserve(len(lengths), [])
    runner.prefill(last, token_ids[:longest], 0, 0)
    for slot, length in enumerate(lengths[:-1]):
        runner.move(last, slot, length)
    together = _decode_forced(runner, token_ids, lengths, steps)
    runner.move(last, 0, longest)  # which begins with the others: each leaves those shorter than itself alone
    alone = [_decode_forced(runner, token_ids, [length], steps)[0] for length in reversed(lengths)]
    return _finite(float(np.abs(together - np.stack(alone[::-1])).max()))


def chunk_differences(runner: ModelRunner, token_ids: Ids) -> tuple[float, float]:
    """Return the largest and the mean absolute difference of logits between a prompt in odd chunks and at once.

    Its last tokens are run one by one.
    """
    runner.reserve(1, [])
    whole = runner.prefill(0, token_ids, 0, len(token_ids))
    singles = min(SINGLE_STEPS, len(token_ids) - 1)
    sizes = [ODD_CHUNK] * ((len(token_ids) - singles) // ODD_CHUNK)
    sizes += [len(token_ids) - singles - sum(sizes)] + [1] * singles
    start, largest, total = 0, 0.0, 0.0
    for size in (s for s in sizes if s):
        logits = runner.prefill(0, token_ids[start : start + size], start, size)
        difference = np.abs(logits - whole[start : start + size])
        largest = max(largest, _finite(float(difference.max())))
        total += float(difference.sum())
        start += size
    return largest, total / whole.size


def _decode_forced(runner: ModelRunner, token_ids: Ids, lengths: list[int], steps: int) -> Floats:
    """Logits [n, steps, V] of the tokens that follow each prefix in the first n slots, decoded together."""
    positions = np.array(lengths, np.int32)
    rows = [runner.decode(token_ids[positions + i], positions + np.int32(i)).copy() for i in range(steps)]
    return np.stack(rows, axis=1)


def _log_sum_exp(logits: Floats) -> Doubles:
    return (logits.astype(np.float64) - log_softmax(logits))[..., 0]


def _finite(value: float) -> float:
    return value if np.isfinite(value) else float("inf")
