"""How far a model's logits are from golden ones, from its own in a batch, and from its own in chunks.

NaN is no difference that passes: wherever one comes up, the difference is infinite.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from ..arrays import Doubles, Floats, Ids
from ..engine import EngineCore
from ..runner import PREFILL_CHUNK, ModelRunner
from .golden import Golden, log_sum_exp

__all__ = ["batch_difference", "chunk_differences", "golden_difference", "largest", "prompts_difference"]

SINGLE_STEPS = 16  # tokens run one by one when chunking is checked
ODD_CHUNK = 37
BATCH_STEPS = 4
LAST_ROWS = 4
PROMPTS = (1.0, 0.6, 0.1, 0.35)  # lengths of prompts that share a run, as parts of the longest


def largest(values: Iterable[float]) -> float:
    """Return the largest value, at least 0; infinity where any is NaN, which `max` would forget."""
    return max((math.inf if math.isnan(value) else value for value in values), default=0.0)


def golden_difference(runner: ModelRunner, golden: Golden) -> float:
    """Return the largest absolute difference of the stored logits and log-sum-exp to those of now; inf for NaN."""
    logits = EngineCore(runner).logits(golden.token_ids)[golden.positions]
    if not np.isfinite(logits).all():
        return math.inf
    now = np.take_along_axis(logits, golden.top_ids, axis=-1)
    return largest(
        float(_apart(*pair).max()) for pair in ((now, golden.top_logits), (log_sum_exp(logits), golden.log_sum_exp))
    )


def batch_difference(runner: ModelRunner, token_ids: Ids) -> float:
    """Return the largest absolute difference of decoded logits between sequences together and each alone.

    The sequences are prefixes of ``token_ids`` of different lengths, each continued by a few of its tokens. 0 is
    identity.
    """
    count = len(token_ids)
    steps = min(BATCH_STEPS, count // 4)
    if not steps:
        return 0.0  # too short to be continued
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
    return largest([float(_apart(together, np.stack(alone[::-1])).max())])


def prompts_difference(runner: ModelRunner, token_ids: Ids, longest: int = PREFILL_CHUNK) -> float:
    """Return the largest absolute difference of logits between prompts that share a run and each alone.

    The prompts are ranges of ``token_ids``, of up to ``longest`` tokens and of several lengths. Compared are the logits
    of their last positions, and those of the next step, which reads all that was stored of them. 0 is identity.
    """
    longest = min(longest, len(token_ids) - 1)
    if longest < 2:
        return 0.0  # too short to be cut
    lengths = [max(1, int(longest * part)) for part in PROMPTS][: runner.max_batch_size]
    starts = [(len(token_ids) - 1 - length) * i // len(lengths) for i, length in enumerate(lengths)]
    prompts = [token_ids[start : start + length] for start, length in zip(starts, lengths, strict=True)]
    following = np.array([token_ids[start + length] for start, length in zip(starts, lengths, strict=True)])
    runner.reserve(len(prompts), [])
    kept = min(LAST_ROWS, longest)
    together = runner.prefill_prompts(0, prompts, kept)
    ends = np.array(lengths, np.int32)
    next_together = runner.decode(following, ends).copy()
    found = []
    for i, prompt in enumerate(prompts):
        rows = min(kept, len(prompt))
        alone = runner.prefill(0, prompt, 0, rows)
        next_alone = runner.decode(following[i : i + 1], ends[i : i + 1])[0]
        found += [_apart(together[i, kept - rows :], alone), _apart(next_together[i], next_alone)]
    return largest(float(difference.max()) for difference in found)


def chunk_differences(runner: ModelRunner, token_ids: Ids) -> tuple[float, float]:
    """Return the largest and the mean absolute difference of logits between a prompt in odd chunks and at once.

    Its last tokens are run one by one.
    """
    runner.reserve(1, [])
    whole = runner.prefill(0, token_ids, 0, len(token_ids))
    singles = min(SINGLE_STEPS, len(token_ids) - 1)
    sizes = [ODD_CHUNK] * ((len(token_ids) - singles) // ODD_CHUNK)
    sizes += [len(token_ids) - singles - sum(sizes)] + [1] * singles
    start, total = 0, 0.0
    found = []
    for size in (s for s in sizes if s):
        logits = runner.prefill(0, token_ids[start : start + size], start, size)
        difference = _apart(logits, whole[start : start + size])
        found.append(float(difference.max()))
        total += float(difference.sum())
        start += size
    return largest(found), largest([total / whole.size])


def _decode_forced(runner: ModelRunner, token_ids: Ids, lengths: list[int], steps: int) -> Floats:
    """Logits [n, steps, V] of the tokens that follow each prefix in the first n slots, decoded together."""
    positions = np.array(lengths, np.int32)
    rows = [runner.decode(token_ids[positions + i], positions + np.int32(i)).copy() for i in range(steps)]
    return np.stack(rows, axis=1)


def _apart(one: Floats | Doubles, other: Floats | Doubles) -> Floats | Doubles:
    """Absolute differences, NaN where an infinity is taken from another."""
    with np.errstate(invalid="ignore", over="ignore"):
        return np.abs(one - other)
