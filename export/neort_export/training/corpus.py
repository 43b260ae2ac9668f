"""Plain text files to token ids: reading in pieces, training the tokenizer, encoding, drawing batches.

Knows nothing about models.
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neort.errors import NeortError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = [
    "END_ID",
    "END_OF_TEXT",
    "Corpus",
    "TokenIds",
    "TrainingError",
    "draw_batches",
    "encode",
    "read_pieces",
    "train_tokenizer",
]

TokenIds = NDArray[np.integer[Any]]
END_OF_TEXT = "<|endoftext|>"
END_ID = 0
READ_CHARACTERS = 1 << 16  # characters read, and tokenized, at a time


class TrainingError(NeortError, ValueError):
    """A text that cannot be trained on, a target that is in the way, or a run that diverged."""


@dataclass(frozen=True)
class Corpus:
    """Token ids of one or more texts, and the texts' length in UTF-8 bytes, separators left out."""

    tokens: TokenIds  # [N], mapped from a file
    text_bytes: int


def read_pieces(path: Path) -> Iterator[str]:
    """Yield a UTF-8 text file (.xz: compressed) in pieces of about 64K characters that tokenize as the whole.

    A cut before the last blank of a run is one that byte-level BPE makes too: that blank begins the next word.
    Raises TrainingError if the file cannot be read.
    """
    rest = ""
    try:
        with (lzma.open if path.suffix == ".xz" else open)(path, "rt", encoding="utf-8", newline="") as file:
            while text := file.read(READ_CHARACTERS):
                rest += text
                blanks = re.finditer(r"[ \n](?=[^\s<])", rest[-4096:])
                cut = max(0, len(rest) - 4096) + max((blank.start() for blank in blanks), default=-len(rest))
                if cut > 0:
                    yield rest[:cut]
                    rest = rest[cut:]
    except (OSError, EOFError, UnicodeError, lzma.LZMAError) as error:
        raise TrainingError(f"cannot read {path} as UTF-8 text: {error}") from error
    if rest:
        yield rest


def train_tokenizer(texts: Sequence[Path], vocab_size: int) -> Tokenizer:
    """Train a byte-level BPE of at most ``vocab_size`` entries (fewer if the texts repeat too little)."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((piece for path in texts for piece in read_pieces(path)), trainer)
    return tokenizer


def encode(texts: Iterable[Path], tokenizer: Tokenizer, target: Path) -> Corpus:
    """Write the texts' token ids to the file ``target``, END_ID after each text, and map it into memory."""
    dtype = np.uint16 if tokenizer.get_vocab_size() <= 1 << 16 else np.uint32
    text_bytes = 0
    with target.open("wb") as file:
        for path in texts:
            pieces = read_pieces(path)
            while group := list(islice(pieces, 64)):
                for encoding in tokenizer.encode_batch_fast(group, add_special_tokens=False):
                    file.write(np.array(encoding.ids, dtype).tobytes())
                text_bytes += sum(len(piece.replace(END_OF_TEXT, "").encode()) for piece in group)
            file.write(np.array([END_ID], dtype).tobytes())
    return Corpus(np.memmap(target, dtype, mode="r"), text_bytes)


def draw_batches(
    tokens: TokenIds, context: int, batch_size: int, seed: int, skip: int = 0
) -> Iterator[NDArray[np.int64]]:
    """Yield batches [B, context + 1] without end, but for the first ``skip``.

    An epoch is all of the tokens, cut at a random offset, in random order.
    """
    generator = np.random.default_rng(seed)

    def starts() -> Iterator[int]:
        while True:
            offset = generator.integers(min(context, len(tokens) - context))
            yield from offset + context * generator.permutation((len(tokens) - 1 - offset) // context)

    source = islice(starts(), skip * batch_size, None)
    while True:
        yield np.stack([tokens[start : start + context + 1] for start in islice(source, batch_size)]).astype(np.int64)
