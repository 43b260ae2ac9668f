"""One sequence's tokens as text, token by token.

Knows tokens and what ends a text; knows nothing about requests.
"""

from __future__ import annotations

import copy

from ..arrays import Ids
from ..generation import GenerationConfig
from ..tokenizer import TextStream, Tokenizer

__all__ = ["SequenceText"]

LONGEST_CHARACTER = 4  # tokens, since each is a byte at least


class SequenceText:
    """The text of the tokens so far, of which the end is held back as long as it may be part of a stop string."""

    def __init__(self, prompt_ids: Ids, config: GenerationConfig, tokenizer: Tokenizer) -> None:
        """``prompt_ids``, int64 [T], come before the text: a stop string may begin in them, unless options say no."""
        self._tokenizer = tokenizer
        self._eos_token_ids = config.eos_token_ids
        self._includes_stop = config.include_stop_str_in_output
        self._bytes_of = tokenizer.token_bytes if config.skip_special_tokens else tokenizer.all_bytes
        self._stream = TextStream(config.stops, keep_stop=self._includes_stop)
        self._count = 0  # tokens so far
        self._least = (config.min_new_tokens or 0) if config.stop_in_new_text else 0  # that no stop string ends
        if config.stops and not config.stop_in_new_text:
            self._stream.follow(_last_text(prompt_ids, max(map(len, config.stops)), tokenizer))

    @property
    def stopped(self) -> bool:
        """Whether a stop string has ended the text."""
        return self._stream.stopped

    @property
    def matched(self) -> str | None:
        """The stop string that has ended the text."""
        return self._stream.matched

    def push(self, token_id: int) -> str:
        """The text that is certain with one more token, whose own may be none of it but complete a stop string."""
        hidden = token_id in self._eos_token_ids and not self._includes_stop
        visible = b"" if hidden else self._bytes_of(token_id)
        self._count += 1
        stops = self._count > self._least
        if visible:
            return self._stream.push(visible, stops=stops)
        return self._stream.push_hidden(self._tokenizer.all_bytes(token_id).decode("utf-8", "replace"), stops=stops)

    def ends(self, token_id: int) -> bool:
        """Take one more token; True where a stop string ends the text with it."""
        self.push(token_id)
        return self.stopped

    def finish(self) -> str:
        """The text that was held back."""
        return "" if self._stream.stopped else self._stream.finish()

    def fork(self) -> SequenceText:
        """An independent copy, in the state that this one is in."""
        fork = copy.copy(self)
        fork._stream = self._stream.fork()
        return fork


def _last_text(ids: Ids, length: int, tokenizer: Tokenizer) -> str:
    """The end of a prompt's text, special tokens' included: ``length`` characters, or more, where there are as many."""
    last = ids[-LONGEST_CHARACTER * length :].tolist()
    return b"".join(map(tokenizer.all_bytes, last)).decode("utf-8", "replace")
