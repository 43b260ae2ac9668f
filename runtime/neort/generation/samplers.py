"""From logits to one token: greedy or drawn at random, and the random stream that draws.

Knows arrays; knows nothing about text, requests or the model.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..arrays import Doubles, Logits
from ..errors import LogitsError

__all__ = ["check_finite", "greedy", "log_softmax", "make_generator", "sample", "softmax"]

_RULED_OUT = np.float32(-np.inf)  # the logit of a token that must not be chosen


def softmax(logits: NDArray[np.floating]) -> Doubles:
    """Return the probabilities, float64 [..., V], of logits [..., V] along the last axis; -inf gives exactly 0.

    Raises LogitsError for NaN, +inf, or a row whose entries are all -inf.
    """
    weights = np.exp(_shifted(logits))
    weights /= weights.sum(axis=-1, keepdims=True)
    return weights


def log_softmax(logits: NDArray[np.floating]) -> Doubles:
    """Return the logarithms of `softmax`, float64 [..., V], exact also where the probability underflows.

    Raises what `softmax` does.
    """
    shifted = _shifted(logits)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


def _shifted(logits: NDArray[np.floating]) -> Doubles:
    """The logits as a new float64 array, less the largest of each row."""
    largest = logits.max(axis=-1, keepdims=True)
    if not np.isfinite(largest).all():
        raise LogitsError(
            "no probabilities follow from these logits: they hold NaN or +inf, or are all -inf (no token is "
            "allowed). Check the options that rule out tokens, and the bundle with `neort verify`."
        )
    shifted: Doubles = np.subtract(logits, largest, dtype=np.float64)
    return shifted


def greedy(logits: Logits) -> int:
    """Return the id of the largest logit in float32 [V]; of equal ones the first, as torch.argmax has it on CPUs."""
    return int(np.argmax(logits))


def sample(logits: Logits, rng: np.random.Generator) -> int:
    """Draw one id from the softmax of float32 [V], by inverse CDF in float64 from one uniform draw of ``rng``.

    A token whose probability is zero (-inf, or underflow in float64) is never drawn. Raises what `softmax` does.
    """
    possible = logits != _RULED_OUT
    count = np.count_nonzero(possible)
    if count in (0, logits.shape[0]):
        return _drawn(logits, rng)
    candidates = np.flatnonzero(possible)
    return int(candidates[_drawn(logits[candidates], rng)])


def _drawn(logits: Logits, rng: np.random.Generator) -> int:
    """The index that is drawn of candidates [C]. Raises what `softmax` does."""
    largest = logits.max()
    if not math.isfinite(largest):
        _shifted(logits)  # says what is wrong
    weights = np.subtract(logits, largest, dtype=np.float64)
    np.exp(weights, out=weights).cumsum(out=weights)
    end = float(weights[-1])
    # The first entry above the point ends a step of positive height; a point below the end has such an entry.
    point = min(rng.random() * end, math.nextafter(end, 0.0))
    return int(weights.searchsorted(point, side="right"))


def make_generator(seed: int | None, index: int = 0, *, stream: int = 0) -> np.random.Generator:
    """Return a random stream of return sequence ``index`` of a request, a function of ``seed`` and the numbers only.

    So one seed gives one text, whatever else runs beside it. None draws fresh entropy from the system. ``stream`` is 0
    for drawing tokens, another number for whatever else is left to chance.
    """
    key = (index, stream) if stream else (index,)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


def check_finite(logits: Logits, position: int) -> None:
    """Refuse logits, float32 [V], from which no token can be chosen, in one pass: the maximum tells.

    Raises LogitsError where an entry is NaN or +inf, or all are -inf; ``position`` says where in the sequence.
    """
    with np.errstate(invalid="ignore"):
        largest = logits.max()
    if not np.isfinite(largest):
        problem = "are all -inf" if largest == _RULED_OUT else f"hold {'NaN' if np.isnan(largest) else '+inf'}"
        raise LogitsError(
            f"the logits at position {position} {problem}, but must be finite to choose a token: "
            "check the bundle with `neort verify`."
        )
