"""How far the exported graphs are from torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neort.engine import PREFILL_CHUNK
from neort.generation import log_softmax
from neort.runner import ModelRunner
from neort.verification import largest

from ..errors import VerificationError

__all__ = ["Agreement", "chunk_logits", "compare"]

Floats = NDArray[np.float32]

NO_TARGET = -1  # after a sequence's last position
COMPARED_ROWS = 32  # compared at a time, in float64


@dataclass(frozen=True)
class Agreement:
    """Logits of a graph against torch's on the same text.

    KL divergence is KL(torch || graph) in nats per token; top-1 agreement is the share of positions with the same
    most probable token; perplexity is exp of the mean negative log-likelihood of the next token. The standard error of
    the perplexity ratio is that of the mean difference of log-likelihoods.
    """

    tokens: int
    max_abs_diff: float
    mean_kl: float
    p99_kl: float
    top1_agreement: float
    torch_perplexity: float
    perplexity: float
    perplexity_ratio_error: float

    @property
    def perplexity_ratio(self) -> float:
        """The graph's perplexity over torch's."""
        return self.perplexity / self.torch_perplexity

    @property
    def certain_perplexity_ratio(self) -> float:
        """The perplexity ratio less two standard errors."""
        return self.perplexity_ratio - 2 * self.perplexity_ratio_error

    def to_json(self) -> dict[str, Any]:
        """All figures, for verification.json."""
        return {**asdict(self), "perplexity_ratio": self.perplexity_ratio}


def compare(expected: Iterable[Floats], actual: Iterable[Floats], sequences: Sequence[Sequence[int]]) -> Agreement:
    """Compare torch's logits with a graph's: both as row ranges [n, V], a row for each position of ``sequences``.

    Ranges may be cut anywhere. Raises VerificationError when either are NaN or infinite, and ValueError when there are
    fewer rows than positions.
    """
    targets = np.concatenate([[*ids[1:], NO_TARGET] for ids in sequences]).astype(np.int64)
    kl, hits, losses, differences, start = [], [], [], [], 0
    for reference, logits in _aligned(expected, actual):
        _check_finite(reference, "torch")
        _check_finite(logits, "the exported graph")
        with np.errstate(over="ignore"):
            differences.append(float(np.abs(logits - reference).max()))
        p, q = log_softmax(reference), log_softmax(logits)
        kl.append((np.exp(p) * (p - q)).sum(axis=-1))
        hits.append(reference.argmax(axis=-1) == logits.argmax(axis=-1))
        target = targets[start : start + len(p)]
        following = (np.flatnonzero(target != NO_TARGET), target[target != NO_TARGET])
        losses.append(np.stack([-p[following], -q[following]]))
        start += len(p)
    if start != len(targets):
        raise ValueError(f"{start} rows of logits for {len(targets)} tokens")
    by_token = np.concatenate(losses, axis=1)
    torch_loss, loss = by_token.mean(axis=1)
    error = float(np.std(by_token[1] - by_token[0])) / math.sqrt(by_token.shape[1])
    return Agreement(
        tokens=start,
        max_abs_diff=largest(differences),
        mean_kl=float(np.concatenate(kl).mean()),
        p99_kl=float(np.quantile(np.concatenate(kl), 0.99)),
        top1_agreement=float(np.concatenate(hits).mean()),
        torch_perplexity=_exp(torch_loss),
        perplexity=_exp(loss),
        perplexity_ratio_error=_exp(loss - torch_loss) * error,
    )


def chunk_logits(runner: ModelRunner, sequences: Sequence[Sequence[int]], *, logits: bool = True) -> Iterator[Floats]:
    """Yield the logits [n, V] of each sequence from its start, in the chunks in which the engine prefills.

    Without ``logits`` n is 0: the tokens pass through the model, and none are computed.
    """
    runner.reserve(1, [])
    for ids in sequences:
        tokens = np.asarray(ids, np.int64)
        for start in range(0, len(tokens), PREFILL_CHUNK):
            chunk = tokens[start : start + PREFILL_CHUNK]
            yield runner.prefill(0, chunk, start, len(chunk) if logits else 0)


def _aligned(first: Iterable[Floats], second: Iterable[Floats]) -> Iterator[tuple[Floats, Floats]]:
    """The rows of both, cut at the same places, at most COMPARED_ROWS at a time."""
    left, right = iter(first), iter(second)
    a = b = np.empty((0, 0), np.float32)
    while True:
        a = a if len(a) else next(left, a)
        b = b if len(b) else next(right, b)
        rows = min(len(a), len(b), COMPARED_ROWS)
        if not rows:
            return
        yield a[:rows], b[:rows]
        a, b = a[rows:], b[rows:]


def _exp(loss: float) -> float:
    """exp of a loss; infinity beyond the numbers."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


def _check_finite(logits: Floats, who: str) -> None:
    if not np.isfinite(logits).all():
        raise VerificationError(f"{who} computes NaN or infinite logits; check the checkpoint's weights")
