"""From logits to a token: processors that reshape the distribution, samplers that choose from it.

A processor is a closure over its option. It takes the ids so far and the logits of the next token, and
returns logits: the same array where it has nothing to change, a new one otherwise, never its input modified.
The results are those of transformers' classes of similar names, ties included. Option values are taken as
`GenerationConfig` checked them, and at least one logit must be finite. Nothing here knows about text or about
the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import LogitsError
from .config import GenerationConfig

__all__ = [
    "LogitsProcessor",
    "build_processors",
    "check_finite",
    "greedy",
    "log_softmax",
    "make_generator",
    "min_length",
    "min_new_tokens",
    "repetition_penalty",
    "sample",
    "softmax",
    "temperature",
    "top_k",
    "top_p",
]

Ids = NDArray[np.int64]
Logits = NDArray[np.float32]

#: (ids of the prompt and of the text so far, int64 [T]; logits of the next token, float32 [V]) -> float32 [V]
LogitsProcessor = Callable[[Ids, Logits], Logits]

_OFF = np.float32(-np.inf)  # the logit of a token that must not be chosen
_BUCKETS = 1024  # groups of the vocabulary whose maxima bound the k-th largest logit


def build_processors(
    config: GenerationConfig, prompt_length: int, vocab_size: int | None = None
) -> list[LogitsProcessor]:
    """The processors that `config` asks for, in transformers' order.

    Args:
        config: options at a neutral value, or without an end-of-text token to act on, add no processor.
        prompt_length: tokens in the prompt. Processors are then to be given all of prompt and text, also when
            the oldest tokens have left the cache.
        vocab_size: V, where known: end-of-text ids and a top_k beyond it then need no processor either.
    """
    size = np.iinfo(np.int64).max if vocab_size is None else vocab_size
    eos_ids = [token for token in config.eos_token_ids if token < size]
    processors: list[LogitsProcessor] = []
    if config.repetition_penalty not in (None, 1.0):
        processors.append(repetition_penalty(config.repetition_penalty))
    if eos_ids and config.min_new_tokens is None and config.min_length:  # else min_new_tokens takes precedence
        processors.append(min_length(config.min_length, eos_ids))
    if eos_ids and config.min_new_tokens:
        processors.append(min_new_tokens(prompt_length, config.min_new_tokens, eos_ids))
    if not config.do_sample:
        return processors
    if config.temperature not in (None, 1.0):
        processors.append(temperature(config.temperature))
    if config.top_k and config.top_k < size:
        processors.append(top_k(config.top_k))
    if config.top_p is not None and config.top_p < 1.0:
        processors.append(top_p(config.top_p))
    return processors


def repetition_penalty(penalty: float) -> LogitsProcessor:
    """Divide the positive logits of every token seen so far by `penalty`, and multiply the negative ones.

    Keskar et al. 2019, "CTRL: A Conditional Transformer Language Model for Controllable Generation",
    arXiv:1909.05858; the sign rule is transformers'. A token counts once, however often it occurred.
    """
    factor = np.float32(penalty)

    def process(ids: Ids, logits: Logits) -> Logits:
        seen = logits[ids]
        penalized: Logits = logits.copy()
        penalized[ids] = np.where(seen < 0, seen * factor, seen / factor)
        return penalized

    return process


def min_length(min_length: int, eos_ids: Sequence[int]) -> LogitsProcessor:
    """Rule out the end-of-text tokens while prompt and text together hold fewer than `min_length` tokens.

    transformers' MinLengthLogitsProcessor. Ids outside the vocabulary are ignored.
    """
    return min_new_tokens(0, min_length, eos_ids)


def min_new_tokens(prompt_length: int, min_new_tokens: int, eos_ids: Sequence[int]) -> LogitsProcessor:
    """Rule out the end-of-text tokens while fewer than `min_new_tokens` tokens follow the prompt.

    transformers' MinNewTokensLengthLogitsProcessor. Ids outside the vocabulary are ignored.
    """
    banned = np.asarray(eos_ids, dtype=np.int64)

    def process(ids: Ids, logits: Logits) -> Logits:
        if ids.shape[0] - prompt_length >= min_new_tokens:
            return logits
        longer: Logits = logits.copy()
        longer[banned[banned < logits.shape[0]]] = _OFF
        return longer

    return process


def temperature(temperature: float) -> LogitsProcessor:
    """Divide the logits by `temperature`: below 1 sharpens the distribution, above 1 flattens it.

    Ackley, Hinton and Sejnowski 1985, "A Learning Algorithm for Boltzmann Machines", Cognitive Science 9.
    """
    divisor = np.float32(temperature)

    def process(ids: Ids, logits: Logits) -> Logits:
        scaled: Logits = logits / divisor
        return scaled

    return process


def top_k(k: int) -> LogitsProcessor:
    """Keep the `k` largest logits, and all that equal the smallest of these.

    Fan, Lewis and Dauphin 2018, "Hierarchical Neural Story Generation", arXiv:1805.04833.
    """

    def process(ids: Ids, logits: Logits) -> Logits:
        if k >= logits.shape[0]:
            return logits
        return np.where(logits < _kth_largest(logits, k), _OFF, logits)

    return process


def _kth_largest(logits: Logits, k: int) -> np.float32:
    """The k-th largest entry. Partitioning all of V costs 300 us at V = 50,257; this costs 30.

    Deal the entries into buckets: k of them have a maximum at or above the k-th largest maximum, so at least
    k entries are, and only those can be the k largest.
    """
    rows = logits.shape[0] // _BUCKETS
    if rows > 1 and k <= _BUCKETS:
        maxima = logits[: rows * _BUCKETS].reshape(rows, _BUCKETS).max(axis=0)
        logits = logits[logits >= np.partition(maxima, _BUCKETS - k)[_BUCKETS - k]]
    at = logits.shape[0] - k
    kth: np.float32 = np.partition(logits, at)[at]
    return kth


def top_p(p: float) -> LogitsProcessor:
    """Keep the smallest set of most probable tokens whose probabilities reach `p` together (nucleus).

    Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", arXiv:1904.09751, in transformers'
    form: sort upwards and drop tokens while the cumulative probability is at most 1 - p, but never the last.
    Of equal logits at the cut those with lower ids are dropped first, as a stable sort has it.
    """
    tail = np.float32(1.0 - p)

    def process(ids: Ids, logits: Logits) -> Logits:
        largest = logits.max()
        weights = np.exp(logits - largest)
        total = weights.sum(dtype=np.float64)
        # V weights below tail / 2V of the total stay below the tail all together: no need to sort them.
        likely = weights > np.float32(total * tail / (2 * logits.shape[0]))
        ordered = np.sort(logits[likely])
        summands = np.exp(ordered - largest, dtype=np.float64)
        unlikely = max(0.0, total - summands.sum())
        cumulative = ((np.cumsum(summands) + unlikely) / total).astype(np.float32)
        dropped = min(int(np.searchsorted(cumulative, tail, side="right")), ordered.shape[0] - 1)
        kept = np.where(logits < ordered[dropped], _OFF, logits)
        ties = dropped - int(np.searchsorted(ordered, ordered[dropped]))
        if ties > 0:
            kept[np.flatnonzero(kept == ordered[dropped])[:ties]] = _OFF
        return kept

    return process


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probabilities, float64 [..., V], of logits [..., V] along the last axis; -inf gives exactly 0.

    Raises:
        LogitsError: NaN, +inf, or a row whose entries are all -inf.
    """
    weights = np.exp(_shifted(logits))
    weights /= weights.sum(axis=-1, keepdims=True)
    return weights


def log_softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Logarithms of `softmax`, float64 [..., V], exact also where the probability underflows.

    Raises:
        LogitsError: as for `softmax`.
    """
    shifted = _shifted(logits)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


def _shifted(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """The logits as a new float64 array, less the largest of each row."""
    largest = logits.max(axis=-1, keepdims=True)
    if not np.isfinite(largest).all():
        raise LogitsError(
            "no probabilities follow from these logits: they hold NaN or +inf, or are all -inf (no token is "
            "allowed). Check the options that rule out tokens, and the bundle with `neort verify`."
        )
    shifted: NDArray[np.float64] = np.subtract(logits, largest, dtype=np.float64)
    return shifted


def greedy(logits: Logits) -> int:
    """The id of the largest logit in float32 [V]; of equal ones the first, as torch.argmax has it on CPUs."""
    return int(np.argmax(logits))


def sample(logits: Logits, rng: np.random.Generator) -> int:
    """One id drawn from the softmax of float32 [V], by inverse CDF in float64 from one uniform draw of `rng`.

    A token whose probability is zero (-inf, or underflow in float64) is never drawn.

    Raises:
        LogitsError: as for `softmax`.
    """
    candidates = np.flatnonzero(logits != _OFF)
    weights = _shifted(logits[candidates] if candidates.size else logits)
    cumulative = np.cumsum(np.exp(weights, out=weights), out=weights)
    # The first entry above the point ends a step of positive height; a point below the end has such an entry.
    point = min(rng.random() * cumulative[-1], np.nextafter(cumulative[-1], 0.0))
    return int(candidates[np.searchsorted(cumulative, point, side="right")])


def make_generator(seed: int | None, index: int = 0) -> np.random.Generator:
    """The random stream of return sequence `index` of a request, a function of `seed` and `index` only.

    So one seed gives one text, whatever else runs beside it. None draws fresh entropy from the system.
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(index,))))


def check_finite(logits: Logits, position: int) -> None:
    """Refuse logits, float32 [V], from which no token can be chosen, in one pass: the maximum tells.

    Raises:
        LogitsError: an entry is NaN or +inf, or all are -inf; `position` says where in the sequence.
    """
    with np.errstate(invalid="ignore"):
        largest = logits.max()
    if not np.isfinite(largest):
        problem = "are all -inf" if largest == _OFF else f"hold {'NaN' if np.isnan(largest) else '+inf'}"
        raise LogitsError(
            f"the logits at position {position} {problem}, but must be finite to choose a token: "
            "check the bundle with `neort verify`."
        )
