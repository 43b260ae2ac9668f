"""How fast a loaded model reads and writes: a few cases in turns, so that a busy minute meets all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from ..engine import Completion
from ..model import Model

__all__ = ["Figure", "decode_rate", "measured_speed"]

LENGTHS = (32, 128, 256, 512, 1024)
BATCHES = (1, 4, 8)
FIRST_TOKEN = 128  # length of the prompt whose first token is timed
PROMPT = 32  # tokens before those of a decode case
NEW_TOKENS = (8, 96)  # least and most of a decode case
CASE_SECONDS = 4.0  # longer cases are left out, or made shorter
ROUNDS = (2, 9)

Tell = Callable[[float | None, str], None]


@dataclass
class Figure:
    """One figure of a model: a rate, or seconds; each round's value."""

    name: str
    unit: str
    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The middle of the rounds."""
        return float(np.median(self.values))

    @property
    def best(self) -> float:
        """The largest rate, or the least time."""
        return min(self.values) if self.unit == "s" else max(self.values)


def measured_speed(model: Model, seconds: float, tell: Tell = lambda *_: None) -> list[Figure]:
    """Measure for about so many seconds; ``tell`` is told the part that is done, and what runs.

    Prompts are random tokens. The model must keep no prompts (``prefix_cache_bytes`` 0 of `neort.load`). A case that
    would take too long, or more positions than the model has, is left out.
    """
    began = time.perf_counter()
    tell(None, "a first run of each case")
    cases = list(_cases(model))
    spent = time.perf_counter() - began
    began = time.perf_counter()
    least, most = ROUNDS
    rounds = 0
    while rounds < least or (rounds < most and (time.perf_counter() - began) * (1 + 1 / rounds) < seconds - spent):
        for case in cases:
            tell(min(1.0, (time.perf_counter() - began) / max(seconds - spent, 1e-9)), case.name)
            case.run()
        rounds += 1
    return [figure for case in cases for figure in case.figures]


def decode_rate(model: Model, tokens: int) -> float:
    """Tokens per second of one sequence, the best of three."""
    case = _Decode(model, 1, tokens)
    for _ in range(3):
        case.run()
    return case.figures[0].best


class _Case:
    def __init__(self, model: Model, name: str, figures: list[Figure]) -> None:
        self.model, self.name, self.figures = model, name, figures
        self._random = np.random.default_rng()

    def run(self) -> None:
        raise NotImplementedError

    def generate(self, batch: int, length: int, new_tokens: int) -> list[Completion]:
        """Continue random prompts by so many tokens, whatever they are."""
        prompts = self._random.integers(0, self.model.spec.vocab_size, (batch, length)).tolist()
        done: list[Completion] = self.model.generate(
            prompts, max_new_tokens=new_tokens, min_new_tokens=new_tokens, do_sample=False, stop_strings=()
        )
        return done


class _Prefill(_Case):
    def __init__(self, model: Model, length: int) -> None:
        figures = [Figure(f"read a prompt of {length:,}", "tokens/s")]
        if length == FIRST_TOKEN:
            figures.append(Figure(f"first token after {length}", "s"))
        super().__init__(model, f"prompt of {length:,}", figures)
        self._length = length

    def run(self) -> None:
        stats = self.generate(1, self._length, 1)[0].stats
        for figure in self.figures:
            figure.values.append(stats.time_to_first_token if figure.unit == "s" else stats.prompt_tokens_per_second)


class _Decode(_Case):
    def __init__(self, model: Model, batch: int, new_tokens: int) -> None:
        name = "write 1 text" if batch == 1 else f"write {batch} texts at once"
        super().__init__(model, name, [Figure(name, "tokens/s")])
        self._batch, self._new_tokens = batch, new_tokens

    def run(self) -> None:
        done = self.generate(self._batch, PROMPT, self._new_tokens)
        seconds = min(each.stats.decode_seconds for each in done)  # of the sequence that came last: all run then
        self.figures[0].values.append(self._batch * (self._new_tokens - 1) / seconds)


def _cases(model: Model) -> Iterator[_Case]:
    """The cases that fit the model and the time; each has run once, which does not count."""
    positions = model.spec.max_position_embeddings
    rate = None
    for length in LENGTHS:
        if length >= positions or (rate is not None and length / rate > CASE_SECONDS):
            break
        case = _Prefill(model, length)
        case.run()
        rate = case.figures[0].values[-1]
        yield _forgotten(case)
    least, most = NEW_TOKENS
    first = _Decode(model, 1, least)
    first.run()
    most = min(most, positions - PROMPT)
    tokens = max(least, min(most, int(first.figures[0].values[-1] * CASE_SECONDS / 2)))
    for batch in BATCHES:
        case_of_batch = _Decode(model, batch, tokens)
        case_of_batch.run()
        yield _forgotten(case_of_batch)


def _forgotten(case: _Case) -> _Case:
    for figure in case.figures:
        figure.values.clear()
    return case
