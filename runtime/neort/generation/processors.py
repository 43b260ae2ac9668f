"""Logits processors: what reshapes the next token's distribution before one is chosen.

The results are those of transformers' classes of similar names, ties included. Option values are taken as
`GenerationConfig` checked them, and at least one logit must be finite. Nothing here knows about text or about
the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ..arrays import Ids, Logits
from ..errors import LogitsError
from .config import GenerationConfig

__all__ = [
    "LogitsProcessor",
    "build_processors",
    "min_length",
    "min_new_tokens",
    "repetition_penalty",
    "temperature",
    "top_k",
    "top_p",
]

_RULED_OUT = np.float32(-np.inf)  # the logit of a token that must not be chosen
_BUCKETS = 1024  # groups of the vocabulary whose maxima bound the k-th largest logit


class LogitsProcessor(Protocol):
    """Reshapes the distribution of the next token; a function, or an object with state of its own.

    The object itself serves the first sequence of a call. Further sequences, and a draft model, get copies of it, made
    with `copy.deepcopy`: state belongs in attributes, since functions, and so what a closure has changed, are taken as
    they are. What cannot be copied, a lock say, asks for a `__deepcopy__` of one's own.
    """

    def __call__(self, ids: Ids, logits: Logits, /) -> Logits:
        """Return the logits, float32 [V], from which to choose the token after ``ids``.

        ``ids``, int64 [T], are those of the prompt and of the text so far, whole also where the oldest tokens have left
        the cache. ``logits``, float32 [V], are the model's, or those of the processor before. Returns the same array
        where there is nothing to change, a new one otherwise; neither argument is ever modified.
        """


class Guarded:
    """A caller's processor: it may write into what it is given, and what it returns is checked."""

    def __init__(self, processor: LogitsProcessor) -> None:
        self.processor = processor

    def __repr__(self) -> str:
        return repr(self.processor)

    def __call__(self, ids: Ids, logits: Logits, /) -> Logits:
        """See `LogitsProcessor`. Raises LogitsError for what is no float array of the logits' shape."""
        returned = self.processor(ids.copy(), logits.copy())
        shape, kind = getattr(returned, "shape", None), getattr(getattr(returned, "dtype", None), "kind", None)
        if shape != logits.shape or kind != "f":
            raise LogitsError(
                f"the logits processor {self.processor!r} returned {type(returned).__name__} of shape {shape}; "
                f"it must return floats of shape {logits.shape}"
            )
        return returned.astype(np.float32, copy=False)


def build_processors(
    config: GenerationConfig,
    prompt_length: int,
    vocab_size: int | None = None,
    *,
    own: Sequence[LogitsProcessor] = (),
    constraint: LogitsProcessor | None = None,
) -> list[LogitsProcessor]:
    """Return the processors that ``config`` asks for, in transformers' order.

    The caller's ``own`` come where transformers has them: after those for greedy decoding, before those of sampling.
    A grammar's ``constraint`` comes between: nothing before it undoes it, and what narrows the choice leaves a token.

    Options at a neutral value, or without an end-of-text token to act on, add none. ``prompt_length`` is the number of
    tokens in the prompt. ``vocab_size`` is V, where known: end-of-text ids and a top_k beyond it then add none either.
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
    processors += [Guarded(processor) for processor in own]
    if constraint is not None:
        processors.append(constraint)
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
    """Divide the positive logits of every token seen so far by ``penalty``, and multiply the negative ones.

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
    """Rule out the end-of-text tokens while prompt and text together hold fewer than ``min_length`` tokens.

    transformers' MinLengthLogitsProcessor. Ids outside the vocabulary are ignored.
    """
    return min_new_tokens(0, min_length, eos_ids)


def min_new_tokens(prompt_length: int, min_new_tokens: int, eos_ids: Sequence[int]) -> LogitsProcessor:
    """Rule out the end-of-text tokens while fewer than ``min_new_tokens`` tokens follow the prompt.

    transformers' MinNewTokensLengthLogitsProcessor. Ids outside the vocabulary are ignored.
    """
    banned = np.asarray(eos_ids, dtype=np.int64)

    def process(ids: Ids, logits: Logits) -> Logits:
        if ids.shape[0] - prompt_length >= min_new_tokens:
            return logits
        longer: Logits = logits.copy()
        longer[banned[banned < logits.shape[0]]] = _RULED_OUT
        return longer

    return process


def temperature(temperature: float) -> LogitsProcessor:
    """Divide the logits by ``temperature``: below 1 sharpens the distribution, above 1 flattens it.

    Ackley, Hinton and Sejnowski 1985, "A Learning Algorithm for Boltzmann Machines", Cognitive Science 9.
    """
    divisor = np.float32(temperature)

    def process(ids: Ids, logits: Logits) -> Logits:
        scaled: Logits = logits / divisor
        return scaled

    return process


def top_k(k: int) -> LogitsProcessor:
    """Keep the ``k`` largest logits, and all that equal the smallest of these.

    Fan, Lewis and Dauphin 2018, "Hierarchical Neural Story Generation", arXiv:1805.04833.
    """

    def process(ids: Ids, logits: Logits) -> Logits:
        if k >= logits.shape[0]:
            return logits
        return np.where(logits < _kth_largest(logits, k), _RULED_OUT, logits)

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
    """Keep the smallest set of most probable tokens whose probabilities reach ``p`` together (nucleus).

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
        kept = np.where(logits < ordered[dropped], _RULED_OUT, logits)
        ties = dropped - int(np.searchsorted(ordered, ordered[dropped]))
        if ties > 0:
            kept[np.flatnonzero(kept == ordered[dropped])[:ties]] = _RULED_OUT
        return kept

    return process
