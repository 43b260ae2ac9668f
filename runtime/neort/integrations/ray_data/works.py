"""What is done with records: text is generated, scored, or made into vectors, the same whatever is beside it."""

from __future__ import annotations

import dataclasses
import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...batches import FIGURES, REFUSED, RESULT_KEYS, Record, Result, answered, answers
from ...bundle import Bundle
from ...errors import ConfigError
from ...features import Pooling, Truncation
from ...generation import GenerationConfig
from ...model import Model
from ...wording import shortened
from .libraries import pa

__all__ = ["Embedding", "Generating", "Scoring", "Work", "check_output_key"]

PLACE = ("error", "index", "digest")
TOGETHER = 64  # texts that the engine is given in one call
TOKEN = [("token_id", pa.int64()), ("token", pa.string()), ("logprob", pa.float64())]
KNOWN = pa.list_(pa.struct([*TOKEN, ("top", pa.list_(pa.struct(TOKEN)))]))


@dataclass(frozen=True)
class Work(ABC):
    """A task for each record, which travels to the actors. ``output_key`` names what comes of it."""

    output_key: str

    @property
    @abstractmethod
    def keys(self) -> tuple[str, ...]:
        """What results have beside ``output_key``, so that a record's own members of these names make way."""

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns that are read of a table beside the prompt."""
        return ()

    @abstractmethod
    def facts(self, bundle: Bundle) -> tuple[GenerationConfig | None, dict[str, Any]]:
        """What tells its results from others': generation options, if there are any, and values of JSON's types.

        Raises ConfigError and ArgumentTypeError for options that have no meaning.
        """

    @abstractmethod
    def results(self, model: Model, records: Iterable[Record]) -> list[Result]:
        """Each record with its result, in order. A record that the model refuses has an "error"."""

    @abstractmethod
    def columns(self, model: Model) -> dict[str, pa.DataType]:
        """The columns of results in a table, by name, without those of `PLACE`."""


@dataclass(frozen=True)
class Generating(Work):
    """Text that goes on after prompts, as `neort generate --input` writes it."""

    options: dict[str, Any] = field(default_factory=dict)
    negative_prompt: str | None = None
    max_batch_size: int = 8

    @property
    def keys(self) -> tuple[str, ...]:
        return RESULT_KEYS

    def facts(self, bundle: Bundle) -> tuple[GenerationConfig | None, dict[str, Any]]:
        negative = {} if self.negative_prompt is None else {"negative_prompt": self.negative_prompt}
        own = GenerationConfig.from_hf(bundle.read_json("generation_config.json"))
        return own.replace(**self.options), {"output_key": self.output_key, **negative}

    def results(self, model: Model, records: Iterable[Record]) -> list[Result]:
        return list(
            answers(
                model,
                records,
                model.generation_config.replace(**self.options),
                output_key=self.output_key,
                batch_size=self.max_batch_size,
                negative_prompt=self.negative_prompt,
            )
        )

    def columns(self, model: Model) -> dict[str, pa.DataType]:
        config = model.generation_config.replace(**self.options)
        several = config.num_return_sequences > 1
        each = {self.output_key: pa.string(), "finish_reason": pa.string(), "new_tokens": pa.int64()}
        if config.num_beams > 1:
            each["score"] = pa.float64()
        if config.logprobs is not None:
            each["logprobs"] = KNOWN
        alike = {"prompt_tokens": pa.int64()}
        if config.prompt_logprobs is not None:
            alike["prompt_logprobs"] = KNOWN
        return {**({name: pa.list_(kind) for name, kind in each.items()} if several else each), **alike}


@dataclass(frozen=True)
class Scoring(Work):
    """The log-likelihood of texts, after a context that the record has as ``context_key``, or after nothing."""

    context_key: str | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        return ("tokens", "is_greedy", *PLACE)

    @property
    def needed(self) -> tuple[str, ...]:
        return () if self.context_key is None else (self.context_key,)

    def facts(self, bundle: Bundle) -> tuple[GenerationConfig | None, dict[str, Any]]:
        return None, {"output_key": self.output_key, "context_key": self.context_key}

    def results(self, model: Model, records: Iterable[Record]) -> list[Result]:
        def score(some: Sequence[Record]) -> list[dict[str, Any]]:
            texts, contexts = [record.prompt for record in some], [self._context(record) for record in some]
            alone = len(some) == 1  # whose refusal speaks of no list
            scores = [model.score(texts[0], contexts[0])] if alone else model.score(texts, contexts)
            return [
                {
                    self.output_key: score.log_likelihood if math.isfinite(score.log_likelihood) else None,
                    "tokens": len(score.token_ids),
                    "is_greedy": score.is_greedy,
                }
                for score in scores
            ]

        return _together(records, self, score)

    def columns(self, model: Model) -> dict[str, pa.DataType]:
        return {self.output_key: pa.float64(), "tokens": pa.int64(), "is_greedy": pa.bool_()}

    def _context(self, record: Record) -> Any:
        return "" if self.context_key is None else record.kept.get(self.context_key, "")


@dataclass(frozen=True)
class Embedding(Work):
    """A vector for each text, with the options of `Model.embed`."""

    layer: int = -1
    pooling: Pooling = "mean"
    normalize: bool = False
    truncation: Truncation | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        return PLACE

    def facts(self, bundle: Bundle) -> tuple[GenerationConfig | None, dict[str, Any]]:
        if self.pooling == "none":
            raise ConfigError('pooling is none; a job makes one vector for each text, by "mean" or "last"')
        return None, {**dataclasses.asdict(self)}

    def results(self, model: Model, records: Iterable[Record]) -> list[Result]:
        def embed(some: Sequence[Record]) -> list[dict[str, Any]]:
            texts = [record.prompt for record in some]
            how: dict[str, Any] = {"normalize": self.normalize, "truncation": self.truncation}
            alone = len(some) == 1
            vectors = model.embed(texts[0] if alone else texts, self.layer, self.pooling, **how)
            return [{self.output_key: vector.tolist()} for vector in ([vectors] if alone else vectors)]

        return _together(records, self, embed)

    def columns(self, model: Model) -> dict[str, pa.DataType]:
        return {self.output_key: pa.list_(pa.float32())}


def _together(
    records: Iterable[Record], work: Work, run: Callable[[Sequence[Record]], list[dict[str, Any]]]
) -> list[Result]:
    """The results of texts that are read together, but for those that are refused."""
    every = list(records)
    sound = [record for record in every if not record.error]
    outcomes: dict[int, dict[str, Any] | Exception] = {}
    for start in range(0, len(sound), TOGETHER):
        outcomes |= _outcomes(sound[start : start + TOGETHER], run)

    def told(record: Record) -> dict[str, Any]:
        outcome = outcomes[record.index]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return [answered(record, work.output_key, work.keys, functools.partial(told, record)) for record in every]


def _outcomes(
    records: Sequence[Record], run: Callable[[Sequence[Record]], list[dict[str, Any]]]
) -> dict[int, dict[str, Any] | Exception]:
    """What comes of each record, by its index: halves of what is refused are tried until it is one record alone."""
    try:
        return {record.index: told for record, told in zip(records, run(records), strict=True)}
    except REFUSED as refused:
        if len(records) == 1:
            return {records[0].index: refused}
        middle = len(records) // 2
        return _outcomes(records[:middle], run) | _outcomes(records[middle:], run)


def check_output_key(work: Work, prompt_key: str) -> None:
    """Raise ConfigError where results would have two members of one name."""
    if work.output_key == prompt_key or work.output_key in (*work.keys, *FIGURES):
        raise ConfigError(f"the output key {shortened(work.output_key)} names another member; give a new one")
