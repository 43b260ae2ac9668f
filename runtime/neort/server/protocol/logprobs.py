"""Log-probabilities of tokens in the forms that completions, chats and vLLM's prompt_logprobs have.

Knows tokens' bytes; offsets count characters of the text that the tokens make.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ...generation import TokenLogprob

__all__ = ["LEAST", "Offsets", "TokenNames", "chat_logprobs", "completion_logprobs", "prompt_logprobs"]

LEAST = -9999.0  # stands for logarithms that JSON cannot write, as OpenAI and vLLM have it

BytesOf = Callable[[int], bytes]


class TokenNames:
    """How tokens are written: as their text, or, where that is no whole characters, as OpenAI writes bytes."""

    def __init__(self, all_bytes: BytesOf, *, as_ids: bool = False) -> None:
        """``all_bytes`` knows special tokens' bytes, too; with ``as_ids`` all are written as token_id:123."""
        self._all_bytes, self._as_ids = all_bytes, as_ids

    def name(self, token_id: int) -> str:
        """The token as text."""
        data = self._all_bytes(token_id)
        if self._as_ids or not data:
            return f"token_id:{token_id}"
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)

    def bytes(self, token_id: int) -> list[int]:
        """The token's bytes as numbers."""
        return list(self._all_bytes(token_id))


class Offsets:
    """Where in a text each of its tokens begins: after how many characters that were whole before it."""

    def __init__(self, start: int = 0) -> None:
        """``start`` is the offset of the first one."""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._length = start

    def before(self, data: bytes) -> int:
        """The offset of a token of these bytes, which is the next one."""
        offset = self._length
        self._length += len(self._decoder.decode(data))
        return offset


def completion_logprobs(
    tokens: Iterable[tuple[int, TokenLogprob | None]], offsets: Sequence[int], count: int, names: TokenNames
) -> dict[str, Any]:
    """OpenAI's form for completions: four lists, each with an entry for each token; None for what is not known.

    In each place there are the ``count`` most probable ones, and the token itself.
    """
    pairs = list(tokens)
    return {
        "tokens": [names.name(token_id) for token_id, _ in pairs],
        "token_logprobs": [None if known is None else _finite(known.logprob) for _, known in pairs],
        "top_logprobs": [None if known is None else _top(known, count, names) for _, known in pairs],
        "text_offset": list(offsets),
    }


def chat_logprobs(tokens: Iterable[TokenLogprob], count: int, names: TokenNames) -> dict[str, Any]:
    """OpenAI's form for chats: an object for each token, with ``count`` most probable ones."""
    content = []
    for token in tokens:
        top = [_chat_token(token_id, logprob, names) for token_id, logprob in token.top[:count]]
        content.append({**_chat_token(token.token_id, token.logprob, names), "top_logprobs": top})
    return {"content": content, "refusal": None}


def prompt_logprobs(
    tokens: Iterable[TokenLogprob | None], count: int, names: TokenNames
) -> list[dict[str, Any] | None]:
    """vLLM's form: for each token of a prompt an object of token ids, its own and those of ``count`` most probable."""
    told: list[dict[str, Any] | None] = []
    for token in tokens:
        if token is None:
            told.append(None)
            continue
        ranks = {token_id: rank for rank, (token_id, _) in enumerate(token.top, start=1)}
        entries = {token.token_id: token.logprob, **dict(token.top[:count])}
        told.append(
            {
                str(token_id): {
                    "logprob": _finite(logprob),
                    "rank": ranks.get(token_id),
                    "decoded_token": names.name(token_id),
                }
                for token_id, logprob in entries.items()
            }
        )
    return told


def _top(token: TokenLogprob, count: int, names: TokenNames) -> dict[str, float]:
    """The most probable tokens, best first, and the token itself where it is none of them."""
    top = {names.name(token_id): _finite(logprob) for token_id, logprob in token.top[:count]}
    return top | {names.name(token.token_id): _finite(token.logprob)}


def _chat_token(token_id: int, logprob: float, names: TokenNames) -> dict[str, Any]:
    return {"token": names.name(token_id), "logprob": _finite(logprob), "bytes": names.bytes(token_id)}


def _finite(logprob: float) -> float:
    return logprob if logprob > LEAST else LEAST
