"""Text to token ids and back: the byte-level BPE of a Hugging Face `tokenizer.json`.

A text is cut at its added tokens (`added_tokens`), what is left over gets its ids from an engine (`engines`), and ids
of the file's post-processor are put around them all. Every setting that would give other ids is refused (`checks`).

Knows nothing about models, prompts or context lengths, and never opens a connection.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import ArgumentTypeError, TokenizerError
from ..paths import read_regular
from .added_tokens import AddedToken, Splitter, numbered, splitters
from .characters import bytes_of
from .checks import check_shape, read_settings
from .engines import engine_of

__all__ = ["Tokenizer"]

LARGEST_FILE = 64 << 20  # bytes; GPT-Neo's has 2 million

_SURROGATE = re.compile("[\ud800-\udfff]")


class Tokenizer:
    """Byte-level BPE that gives the ids of `tokenizers.Tokenizer.from_file(...)`, its reference in the tests.

    Which characters are letters and numbers decides where a text is cut, so identity holds as far as both
    libraries know the same version of Unicode: tiktoken 0.8 to 0.14 and tokenizers 0.22 and 0.23 agree on every code
    point; tokenizers 0.20 takes some 9,000 letters and numbers of the newest versions for unassigned.

    Truncation and padding in the file are for calls: here as in transformers, texts are encoded without them.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        """Takes the parsed `tokenizer.json`.

        Raises:
            TokenizerError: the document is malformed, or asks for something that cannot be reproduced exactly.
        """
        self._settings = read_settings(document)
        check_shape(document)
        vocab: dict[str, int] = document["model"]["vocab"]
        listed = [AddedToken.of(entry) for entry in document.get("added_tokens") or ()]
        added = numbered(listed, vocab)
        self._splitters = splitters(added)
        self._engine = engine_of(document["model"], use_regex=self._settings.use_regex)

        special = {token.content for token in listed if token.special}
        self._added = {token.content: token_id for token_id, token in added.items()}
        self._special = {token: token_id for token, token_id in self._added.items() if token in special}
        self._bytes = {token_id: bytes_of(token) for token, token_id in vocab.items()}
        self._bytes |= {token_id: bytes_of(token) for token, token_id in self._added.items()}
        self._special_bytes = {token_id: self._bytes.pop(token_id) for token_id in self._special.values()}

    @classmethod
    def from_file(cls, path: Path) -> Tokenizer:
        """Reads a `tokenizer.json`.

        Raises:
            TokenizerError: the file cannot be read or parsed, or cannot be reproduced exactly.
        """
        try:
            document = json.loads(read_regular(Path(path), LARGEST_FILE))
        except (OSError, ValueError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or error
            raise TokenizerError(f"cannot read {path} as a tokenizer.json ({reason}): restore it") from error
        except RecursionError:
            raise TokenizerError(
                f"cannot read {path} as a tokenizer.json (its lists and objects are nested too deep): restore it"
            ) from None
        return cls(document)

    @property
    def vocab_size(self) -> int:
        """How many token ids there are, added tokens included."""
        return len(self._bytes) + len(self._special_bytes)

    @property
    def token_ids(self) -> list[int]:
        """Every token id, added tokens' included."""
        return [*self._bytes, *self._special_bytes]

    @property
    def largest_text_id(self) -> int:
        """The largest id that a text may have without an added token written in it; -1 where it has none."""
        return max(self._engine.largest_id, *self._settings.prefix, *self._settings.suffix, -1)

    @property
    def added_tokens(self) -> dict[str, int]:
        """The id of each added token, special or not, by its text."""
        return dict(self._added)

    @property
    def special_tokens(self) -> dict[str, int]:
        """The id of each special token, by its text."""
        return dict(self._special)

    @property
    def prefix_ids(self) -> list[int]:
        """The ids that are put before those of every text: none, or a token that begins a text."""
        return list(self._settings.prefix)

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """The token ids of a text. Added tokens written in the text, special ones too, become their ids.

        ``add_special_tokens`` puts the tokens around it that the file asks for, such as one that begins a text. A part
        of a longer text is encoded without.

        A str may hold surrogates, which no valid text has and the reference refuses: here a high one and the
        low one after it count as the character they stand for, and each other one as U+FFFD.

        Raises:
            TypeError: text is not a str.
        """
        if not isinstance(text, str):
            raise ArgumentTypeError(f"text must be a str, not {type(text).__name__}")
        if _SURROGATE.search(text):
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        token_ids = self._encode(text, self._splitters)
        if add_special_tokens and (self._settings.prefix or self._settings.suffix):
            return [*self._settings.prefix, *token_ids, *self._settings.suffix]
        return token_ids

    def encode_part(self, text: str) -> list[int]:
        """The ids of a part of a text: nothing in it stands for an added token, and nothing is put around it."""
        return self._engine.encode(text)

    def _encode(self, text: str, passes: Sequence[Splitter]) -> list[int]:
        for number, splitter in enumerate(passes, start=1):
            if splitter.finds(text):
                token_ids: list[int] = []
                for part in splitter.split(text):
                    token_ids += [part] if isinstance(part, int) else self._encode(part, passes[number:])
                return token_ids
        if self._settings.add_prefix_space and text and not text.startswith(" "):
            text = f" {text}"
        return self._engine.encode(text)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes one token stands for; b"" for special tokens and for every id the tokenizer does not have
        (the vocabulary of a model may be padded)."""
        return self._bytes.get(token_id, b"")

    def all_bytes(self, token_id: int) -> bytes:
        """The bytes one token stands for, a special token too; b"" for every id the tokenizer does not have."""
        return self._bytes.get(token_id) or self._special_bytes.get(token_id, b"")

    def shown(self, token_id: int) -> str:
        """One token's text, a special token's too; bytes that are a part of a character are written as \\xe9."""
        return self.all_bytes(token_id).decode("utf-8", "backslashreplace")

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of token ids. Ids the tokenizer does not have are left out; invalid UTF-8 gives U+FFFD."""
        special: dict[int, bytes] = {} if skip_special_tokens else self._special_bytes
        pieces = (self._bytes.get(token_id) or special.get(token_id, b"") for token_id in token_ids)
        return b"".join(pieces).decode("utf-8", "replace")
