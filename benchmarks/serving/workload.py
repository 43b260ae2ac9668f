"""What clients ask: prompts and answers of mixed lengths from a seed, clients that leave, and what is no request."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from typing import Any

from .client import Asked

__all__ = ["LEAVING", "MALFORMED", "UNSOUND", "Lengths", "endless", "of_ids", "of_words"]

LEAVING, UNSOUND = 0.10, 0.05  # shares of clients that leave early, and of malformed requests
COMMON = (
    "the of and to in a is that it was for on as with his he be at by had not are but from or have an they which one "
    "you were all her she there would their we him been has when who will no more if out so up said what its about "
    "than into them can only other time new some could these two may first then do any like my now over such our man"
)
WORDS = COMMON.split()
MALFORMED = (
    Asked(b"{", expected_status=400, name="half an object"),
    Asked(b"", expected_status=400, name="no body"),
    Asked(b"[1, 2", expected_status=400, name="half a list"),
    Asked(b"\xff\xfe{}", expected_status=400, name="no UTF-8"),
    Asked({"prompt": "a", "max_tokens": "ten"}, expected_status=400, name="text for a number"),
    Asked({"prompt": "a", "max_tokens": -1}, expected_status=400, name="a negative length"),
    Asked({"prompt": "a", "temperature": -1}, expected_status=400, name="a negative temperature"),
    Asked({"prompt": "a", "max_tokenz": 1}, expected_status=400, name="an unknown field"),
    Asked({"prompt": {"text": "a"}}, expected_status=400, name="an object for a prompt"),
    Asked({"prompt": [-1]}, expected_status=400, name="a negative token id"),
    Asked({"prompt": [1 << 40]}, expected_status=400, name="a token id that no vocabulary has"),
    Asked({"prompt": "word " * 20000}, expected_status=400, name="a prompt beyond the context"),
    Asked({"prompt": "a", "model": "another-model"}, expected_status=404, name="an unknown model"),
    Asked({"prompt": "a"}, path="/v1/completion", expected_status=404, name="an unknown path"),
    Asked(None, "GET", expected_status=405, name="GET for POST"),
    Asked(b"\x1f\x8b\x08", headers={"Content-Encoding": "gzip"}, expected_status=415, name="a compressed body"),
)


@dataclasses.dataclass(frozen=True)
class Lengths:
    """How long prompts and answers are: from the first to the second number of tokens, short ones more often."""

    prompt: tuple[int, int] = (4, 256)
    answer: tuple[int, int] = (4, 64)

    def draw(self, source: random.Random) -> tuple[int, int]:
        """Tokens of a prompt and of its answer."""
        return _skewed(source, *self.prompt), _skewed(source, *self.answer)


def of_ids(seed: int, count: int, lengths: Lengths, vocabulary: int, **options: Any) -> list[Asked]:
    """Streamed requests whose prompts are random token ids, so that no server finds one among what it keeps."""
    source = random.Random(seed)
    asked = []
    for _ in range(count):
        prompt, answer = lengths.draw(source)
        ids = [source.randrange(vocabulary) for _ in range(prompt)]
        asked.append(Asked({"prompt": ids, "max_tokens": answer, "stream": True, **options}))
    return asked


def of_words(seed: int, count: int, lengths: Lengths, **options: Any) -> list[Asked]:
    """Streamed requests for text after common words: greedy, seeded sampling, several choices, stop words."""
    source = random.Random(seed)
    asked = []
    for _ in range(count):
        prompt, answer = lengths.draw(source)
        body = {"prompt": " ".join(source.choice(WORDS) for _ in range(prompt)), "max_tokens": answer, "stream": True}
        asked.append(Asked(body | _style(source) | options))
    return asked


def endless(pool: list[Asked], seed: int, leaving: float = LEAVING, unsound: float = UNSOUND) -> Iterator[Asked]:
    """Requests of a pool at random, some of whose clients leave at a random event, and malformed ones between them."""
    source = random.Random(seed)
    while True:
        kind = source.random()
        if kind < unsound:
            yield source.choice(MALFORMED)
            continue
        asked = source.choice(pool)
        if kind < unsound + leaving:
            assert isinstance(asked.body, dict)
            asked = dataclasses.replace(asked, leave_after=source.randint(0, asked.body["max_tokens"]))
        yield asked


def _style(source: random.Random) -> dict[str, Any]:
    """How tokens are chosen."""
    sampling = {"temperature": 0.8, "top_p": 0.95, "seed": source.randrange(1 << 30)}
    return source.choice(
        [
            {"temperature": 0},
            {"temperature": 0, "ignore_eos": True},
            sampling,
            sampling | {"top_k": 40, "repetition_penalty": 1.1},
            sampling | {"n": 2},
            sampling | {"stop": [".", " the"]},
            sampling | {"logprobs": 2},
        ]
    )


def _skewed(source: random.Random, least: int, most: int) -> int:
    """A whole number between both, its logarithm evenly distributed."""
    return min(most, int(least * (most + 1) ** (share := source.random()) / least**share))
