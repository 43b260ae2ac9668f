"""What a logits processor is, and what guards the caller's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from ...arrays import Ids, Logits
from ...errors import LogitsError
from ...wording import shortened

__all__ = [
    "RULED_OUT",
    "AllowedTokensFunction",
    "Guarded",
    "LogitsProcessor",
    "PrefixAllowed",
    "changes_argmax",
    "have_candidates",
]

RULED_OUT = np.float32(-np.inf)  # the logit of a token that must not be chosen


class LogitsProcessor(Protocol):
    """Reshapes the distribution of the next token; a function, or an object with state of its own.

    The object itself serves the first sequence of a call. Further sequences, and a draft model, get copies of it, made
    with `copy.deepcopy`: state belongs in attributes, since functions, and so what a closure has changed, are taken as
    they are. What cannot be copied, a lock say, asks for a `__deepcopy__` of one's own.

    An attribute ``changes_argmax`` of False says that the largest logit stays the largest, whatever the ids: greedy
    decoding then does without the processor.
    """

    def __call__(self, ids: Ids, logits: Logits, /) -> Logits:
        """Return the logits, float32 [V], from which to choose the token after ``ids``.

        ``ids``, int64 [T], are those of the prompt and of the text so far, whole also where the oldest tokens have left
        the cache. They need not be those of the call before and one more: drafts are dropped, and beams change places.
        ``logits``, float32 [V], are the model's, or those of the processor before. Returns the same array where there
        is nothing to change, a new one otherwise; neither argument is ever modified.
        """


def have_candidates(logits: Logits) -> bool:
    """Whether one can choose from logits, float32 [V]; where not, what chooses says why: all ruled out, NaN or +inf."""
    return bool(np.isfinite(logits.max()))


AllowedTokensFunction = Callable[[int, Ids], Sequence[int]]


def changes_argmax(processor: LogitsProcessor) -> bool:
    """Whether a processor may make another token the most probable one; True where it does not say."""
    return bool(getattr(processor, "changes_argmax", True))


class Guarded:
    """A caller's processor: it may write into what it is given, and what it returns is checked."""

    def __init__(self, processor: LogitsProcessor) -> None:
        self.processor = processor
        self.changes_argmax = changes_argmax(processor)

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


class PrefixAllowed:
    """Rules out all tokens but those that the caller's function of ids allows: `prefix_allowed_tokens_fn`.

    De Cao et al. 2021, "Autoregressive Entity Retrieval", arXiv:2010.00904; transformers'
    PrefixConstrainedLogitsProcessor. Where every allowed token is ruled out already, all of them are equal again.
    """

    def __init__(self, allowed: AllowedTokensFunction, prompt_index: int) -> None:
        """``allowed`` takes ``prompt_index``, the place of the prompt in its list, and ids; it returns token ids."""
        self.allowed = allowed
        self.prompt_index = prompt_index

    def __repr__(self) -> str:
        return repr(self.allowed)

    def __call__(self, ids: Ids, logits: Logits, /) -> Logits:
        """See `LogitsProcessor`. Raises LogitsError where the function returns no ids, or unknown ones."""
        allowed = self._checked(self.allowed(self.prompt_index, ids.copy()), logits.shape[0])
        kept = np.full_like(logits, RULED_OUT)
        kept[allowed] = logits[allowed]
        if kept[allowed].max() == RULED_OUT:
            kept[allowed] = 0.0
        return kept

    def _checked(self, returned: object, size: int) -> Ids:
        try:
            allowed = np.asarray(returned)
        except ValueError:
            allowed = np.empty(0)
        sound = allowed.ndim == 1 and allowed.dtype.kind in "iu" and allowed.size
        if not sound or allowed.min() < 0 or allowed.max() >= size:
            raise LogitsError(
                f"prefix_allowed_tokens_fn returned {shortened(returned)} for prompt {self.prompt_index}; it must "
                f"return a list of token ids from 0 to {size - 1}, at least one"
            )
        return allowed.astype(np.int64)
