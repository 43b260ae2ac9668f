"""Rules out the tokens after which a text cannot follow its grammar any more.

Knows token ids and llguidance's matchers; knows nothing about grammars or text.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...arrays import Ids, Logits
from ...errors import ConfigError, LogitsError

__all__ = ["Constraint", "is_dead_end", "reason_of"]

_RULED_OUT = np.float32(-np.inf)  # the logit of a token that must not be chosen


class Constraint:
    """A logits processor that holds one sequence to a grammar; where the ids go back or turn elsewhere, it does, too.

    Copies, made with `copy.deepcopy`, go on independently. End-of-text tokens are allowed where the text may end, and
    nowhere else, even where their text would fit.
    """

    def __init__(
        self, matcher: Any, prompt_length: int, eos_ids: Sequence[int], vocab_size: int, name: str = "grammar"
    ) -> None:
        """``matcher``, a llguidance.LLMatcher for ids 0 to ``vocab_size`` - 1, has met no token, and stays as it is.

        The first ``prompt_length`` ids are no part of the text; ``eos_ids`` end it; ``name`` is the option's.
        """
        self._name = name
        self._unmoved = matcher
        self._matcher = matcher.deep_copy()
        self._prompt_length = prompt_length
        self._vocab_size = vocab_size
        self._eos_ids = [token_id for token_id in dict.fromkeys(eos_ids) if token_id < vocab_size]
        self._tokens: list[int] = []  # that the matcher has met, and an end-of-text token, which it has not
        self._ended = False
        self._allowed: NDArray[np.bool_] | None = None

    def __repr__(self) -> str:
        return f"<Constraint {self._name}>"

    def __deepcopy__(self, memo: dict[int, Any]) -> Constraint:
        other = copy.copy(self)
        other._matcher = self._matcher.deep_copy()
        other._tokens = self._tokens.copy()
        return other

    def __call__(self, ids: Ids, logits: Logits, /) -> Logits:
        """See `LogitsProcessor`.

        Raises LogitsError where no token is left, ConfigError where a limit of the grammar's parser is exceeded.
        """
        self._follow(ids)
        allowed = self._mask()
        if logits.shape[0] != len(allowed):
            allowed = np.resize(allowed, logits.shape[0])
            allowed[self._vocab_size :] = False
        constrained: Logits = np.where(allowed, logits, _RULED_OUT)
        if not constrained.max() > _RULED_OUT:
            self._refuse(ids, bool(allowed.any()))
        return constrained

    def is_complete(self, ids: Ids) -> bool:
        """Whether the text in ``ids``, int64 [T], follows the grammar and nothing but its end can come next.

        Raises what a call does.
        """
        self._follow(ids)
        if self._ended or not self._matcher.is_accepting():
            return self._ended
        mask = self._mask()
        return int(np.count_nonzero(mask)) == int(np.count_nonzero(mask[self._eos_ids]))

    def _refuse(self, ids: Ids, others: bool) -> None:
        if self._ended or self.is_complete(ids):
            remedy = "" if self._eos_ids else "; give an eos_token_id where its end must be a token, as for beams"
            raise LogitsError(f"the text is complete at position {len(ids)}: {self._name} allows nothing more{remedy}")
        if others:
            reason = "leave no token at this position: leave out the options or processors that rule out tokens"
            raise LogitsError(f"{self._name} and other options {reason} (position {len(ids)}).")
        raise LogitsError(
            f"{self._name} leaves no token at position {len(ids)}: no token of this model continues the text as the "
            "grammar wants it; allow more there."
        )

    def _follow(self, ids: Ids) -> None:
        """Bring the matcher to the end of the text in ``ids``."""
        text = ids[self._prompt_length :].tolist()
        same = len(self._tokens)
        if text[:same] != self._tokens:
            pairs = zip(text, self._tokens, strict=False)
            same = next((i for i, (new, old) in enumerate(pairs) if new != old), min(len(text), same))
            self._go_back(same)
        for token_id in text[same:]:
            self._advance(token_id)

    def _go_back(self, length: int) -> None:
        """Forget all tokens but the first ``length``."""
        met = len(self._tokens) - self._ended
        kept = self._tokens[:length]
        self._tokens, self._ended, self._allowed = kept, False, None
        if met > length and not (self._matcher.rollback(met - length) and not self._matcher.is_error()):
            self._matcher = self._unmoved.deep_copy()
            self._tokens = []
            for token_id in kept:
                self._advance(token_id)

    def _advance(self, token_id: int) -> None:
        if self._ended:
            raise LogitsError(f"token {token_id} comes after the end of a text that {self._name} constrains")
        self._allowed = None
        if token_id in self._eos_ids:
            self._ended = True
        elif self._matcher.try_consume_tokens([token_id]) != 1:
            self._check_limits()
            raise LogitsError(f"token {token_id} is none that {self._name} allows after {len(self._tokens)} new tokens")
        self._tokens.append(token_id)

    def _mask(self) -> NDArray[np.bool_]:
        """Which tokens may come next, bool [V]."""
        if self._allowed is None:
            if self._ended:
                allowed = np.zeros(self._vocab_size, bool)
            else:
                bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
                self._check_limits()
                allowed = np.unpackbits(bits, count=self._vocab_size, bitorder="little").view(bool)
            allowed[self._eos_ids] = self._ended or self._matcher.is_accepting()
            self._allowed = allowed
        return self._allowed

    def _check_limits(self) -> None:
        """Raise ConfigError where the parser has given up for another reason than that no token fits."""
        if self._matcher.is_error() and not is_dead_end(self._matcher):
            raise ConfigError(
                f"{self._name} takes more work than is allowed, after {len(self._tokens)} new tokens: "
                f"{reason_of(self._matcher)}; make it simpler."
            )


def is_dead_end(matcher: Any) -> bool:
    """Whether a llguidance.LLMatcher has found that no token fits."""
    told: str = matcher.get_error()
    return told.startswith("NoExtension")


def reason_of(matcher: Any) -> str:
    """What a llguidance.LLMatcher in an error says of it."""
    told: str = matcher.get_error()
    return told.partition("\n")[0].strip()
