"""Options that favour, forbid or force certain tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from ..kinds import Biases, IdList, IdLists, SequenceBiases
from ..options import Integer, TokenIds, option

__all__ = ["BiasArguments", "BiasOptions"]

# What the options take; they are stored as tuples of tuples.
SequenceBias = Mapping[tuple[int, ...], float] | Sequence[Sequence[Any]] | None
TokenBias = Mapping[int, float] | Mapping[str, float] | Sequence[Sequence[float]] | None

NO_TOKEN = "use a token id, or None to force no token"


@dataclass(frozen=True, kw_only=True)
class BiasOptions:
    """Which tokens are favoured, forbidden or forced. Token ids that the model does not have are ignored."""

    sequence_bias: SequenceBias = option(
        None, SequenceBiases(), "adds a bias to the logit of the token that completes a sequence of token ids"
    )
    logit_bias: TokenBias = option(None, Biases(), "adds a bias to the logits of token ids")
    allowed_token_ids: Sequence[int] | None = option(
        None, IdList(), "ids of the only tokens that may be chosen; may be several"
    )
    bad_words_ids: Sequence[Sequence[int]] | None = option(
        None, IdLists(), "sequences of token ids that must not come up"
    )
    suppress_tokens: Sequence[int] | None = option(
        None, IdList(), "ids of tokens that are never chosen; may be several"
    )
    begin_suppress_tokens: Sequence[int] | None = option(
        None, IdList(), "ids of tokens that the text does not begin with; may be several"
    )
    forced_bos_token_id: int | None = option(
        None, Integer(0, NO_TOKEN), "id of the token that follows a prompt of one token"
    )
    forced_eos_token_id: int | Sequence[int] | None = option(
        None, TokenIds(NO_TOKEN), "id of the last token where a text reaches its greatest length; may be several"
    )


class BiasArguments(TypedDict, total=False):
    """The types of `BiasOptions`."""

    sequence_bias: SequenceBias
    logit_bias: TokenBias
    allowed_token_ids: Sequence[int] | None
    bad_words_ids: Sequence[Sequence[int]] | None
    suppress_tokens: Sequence[int] | None
    begin_suppress_tokens: Sequence[int] | None
    forced_bos_token_id: int | None
    forced_eos_token_id: int | Sequence[int] | None
