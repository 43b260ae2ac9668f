"""Beam search as one request: num_beams sequences that are searched together for the best ones.

A beam's first child stays in its sequence; further ones take sequences whose beams ended, and of the cache only what
those do not have in common is copied.

Knows logits, tokens and when a beam is at its end; knows nothing about slots.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..arrays import Ids, Logits
from ..errors import LogitsError
from ..generation import (
    BeamSearch,
    Candidate,
    GenerationConfig,
    LogProbabilities,
    TokenChooser,
    TokenLogprob,
    check_finite,
    log_probabilities,
)
from .group import Copy, FinishReason, Group, Sequence, Stats

__all__ = ["BeamSink", "Beams", "EndOfText", "Found"]


@dataclass(frozen=True)
class Found:
    """A sequence that beam search found; ``score`` as transformers' sequences_scores."""

    token_ids: tuple[int, ...]
    reason: FinishReason
    score: float
    stats: Stats
    logprobs: tuple[TokenLogprob, ...]


class BeamSink(Protocol):
    """Where the sequences go that a search has found."""

    def finish(self, found: list[Found]) -> None:
        """These are the best ones, best first; no more will come."""

    def fail(self, error: BaseException) -> None:
        """The request ended in an error: one of neort's, or what a processor of the caller's raised."""


class EndOfText(Protocol):
    """Tells whether a sequence's text has come to its end, by a stop string."""

    def ends(self, token_id: int) -> bool:
        """Take one token more; True where the text ends with it."""

    def fork(self) -> EndOfText:
        """Return an independent copy."""


@dataclass(frozen=True, eq=False)
class _Beam:
    """A sequence that goes on: its tokens, the prompt's included, int64 [T], and what follows its state."""

    sequence: Sequence
    ids: Ids
    chooser: TokenChooser
    end: EndOfText | None
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class _Ended:
    """A beam at its end."""

    token_ids: tuple[int, ...]
    reason: FinishReason
    logprobs: tuple[TokenLogprob, ...]


class Beams(Group):
    """Beam search, or beam sampling, of one prompt, as transformers does it (see `generation.beam`)."""

    def __init__(
        self,
        prompt_ids: Ids,
        config: GenerationConfig,
        sink: BeamSink,
        chooser: TokenChooser | None = None,
        end: EndOfText | None = None,
    ) -> None:
        """``prompt_ids`` are int64 [T]; ``end`` is the state after the prompt.

        ``chooser`` has the processors, of which every beam gets copies, and the generator that draws; None: one that
        does as ``config`` says.
        """
        super().__init__([prompt_ids] * config.num_beams, config, sink)
        self.sink = sink
        chooser = chooser or TokenChooser.from_config(config, len(prompt_ids))
        self._search: BeamSearch[_Ended] = BeamSearch(config, chooser.generator)
        root = copy.copy(chooser)
        root.generator = None  # the search's alone: copies of it would draw the same
        self._beams = [_Beam(self.sequences[0], prompt_ids, root, end)]

    @property
    def active(self) -> list[Sequence]:
        """See `Group.active`; at first the prompt's alone, later fewer than all where few continuations are allowed."""
        return [beam.sequence for beam in self._beams]

    @property
    def new_tokens(self) -> int:
        """See `Group.new_tokens`."""
        return self._search.length

    def take(self, rows: list[Logits]) -> list[Copy]:
        """See `Group.take`."""
        if self.done:
            return []
        scores = self._processed(rows)
        if not self.new_tokens:
            self.first_token = time.perf_counter()
        likely = _Likely(rows, self.config.logprobs)
        going_on: list[tuple[Candidate, EndOfText | None]] = []
        for rank, candidate in enumerate(self._search.candidates(scores)):
            end = self._beams[candidate.beam].end
            end = end and end.fork()
            reason = self._reason(candidate, end)
            if reason is None:
                going_on.append((candidate, end))
            elif rank < self.config.num_beams:
                self._end_beam(candidate, reason, likely)
        going_on = going_on[: self.config.num_beams]
        self._search.advance([candidate for candidate, _ in going_on])
        if self._search.over:
            self._hand_out()
            return []
        return self._branch(going_on, likely)

    def finish(self, reason: FinishReason) -> None:
        """End the search; what goes on ends as it is."""
        for beam, score in zip(self._beams, self._search.scores, strict=True):
            token_ids = tuple(beam.ids[len(self.prompt_ids) :].tolist())
            for _ in range(1 if token_ids else self.config.num_return_sequences):
                self._search.finish(_Ended(token_ids, reason, beam.logprobs), score, self.new_tokens)
        self._hand_out()

    def _processed(self, rows: list[Logits]) -> Logits:
        """Log-probabilities, float32 [n, V], as the processors leave them.

        A beam after which they leave no token, and say so by a LogitsError, is ruled out as long as there are others,
        or enough that are finished.
        """
        scores, dead_end = np.full((len(rows), len(rows[0])), -np.inf, np.float32), None
        for i, (beam, row) in enumerate(zip(self._beams, rows, strict=True)):
            check_finite(row, len(beam.ids))
            try:
                scores[i] = _after_processors(beam, log_probabilities(row))
            except LogitsError as error:
                dead_end = dead_end or error
            _check_scores(scores[i], len(beam.ids))
        lacking = len(self._search.finished) < self.config.num_return_sequences
        if dead_end is not None and lacking and not (scores > -np.inf).any():
            raise dead_end
        return scores

    def _reason(self, candidate: Candidate, end: EndOfText | None) -> FinishReason | None:
        """Why a beam ends with its newest token; None where it goes on."""
        beam, token_id = self._beams[candidate.beam], candidate.token_id
        stopped = end is not None and end.ends(token_id)
        stopped |= beam.chooser.may_end and beam.chooser.ends(np.append(beam.ids, token_id))
        if stopped or token_id in self.config.eos_token_ids:
            return "stop"
        return "length" if self.new_tokens + 1 == self.config.max_new_tokens or self.is_late else None

    def _end_beam(self, candidate: Candidate, reason: FinishReason, likely: _Likely) -> None:
        beam = self._beams[candidate.beam]
        token_ids = (*beam.ids[len(self.prompt_ids) :].tolist(), candidate.token_id)
        ended = _Ended(token_ids, reason, beam.logprobs + likely.of(candidate))
        self._search.finish(ended, candidate.score, len(token_ids))

    def _hand_out(self) -> None:
        """End the request with the best sequences, or with an error where there are too few."""
        wanted, best = self.config.num_return_sequences, self._search.finished
        if len(best) < wanted:
            self.fail(_too_few(len(best), self.config))
            return
        found = [
            Found(
                ended.item.token_ids,
                ended.item.reason,
                float(ended.score),
                self._stats(len(ended.item.token_ids)),
                ended.item.logprobs,
            )
            for ended in best[:wanted]
        ]
        self.sink.finish(found)
        self.done = True  # last: other threads look at it

    def _branch(self, going_on: list[tuple[Candidate, EndOfText | None]], likely: _Likely) -> list[Copy]:
        """Let the candidates be the beams; returns what their sequences lack of the cache."""
        parents = [self._beams[candidate.beam] for candidate, _ in going_on]
        kept = {id(parent.sequence) for parent in parents}
        free = [sequence for sequence in self.sequences if id(sequence) not in kept]
        beams: list[_Beam] = []
        copies: list[Copy] = []
        for (candidate, end), parent in zip(going_on, parents, strict=True):
            sequence, chooser = parent.sequence, parent.chooser
            if id(sequence) in kept:
                kept.remove(id(sequence))
            else:
                copies.append(_cheapest(sequence, free))
                sequence, chooser = copies[-1].target, chooser.fork()
                free.remove(sequence)
            ids = np.append(parent.ids, candidate.token_id)
            beams.append(_Beam(sequence, ids, chooser, end, parent.logprobs + likely.of(candidate)))
        self._place(beams, parents, copies)
        return copies

    def _place(self, beams: list[_Beam], parents: list[_Beam], copies: list[Copy]) -> None:
        """Give each sequence the context of its beam, and count what is to be copied as cached."""
        contexts = [[*parent.sequence.context, int(beam.ids[-1])] for beam, parent in zip(beams, parents, strict=True)]
        for each in copies:
            each.target.cached = each.stop
        for beam, context in zip(beams, contexts, strict=True):
            beam.sequence.context = context
        self._beams = beams


class _Likely:
    """Log-probabilities of candidates, each beam's computed where the first one asks; empty where none are wanted."""

    def __init__(self, rows: list[Logits], count: int | None) -> None:
        self._rows, self._count = rows, count
        self._known: dict[int, LogProbabilities] = {}

    def of(self, candidate: Candidate) -> tuple[TokenLogprob, ...]:
        """That of a candidate's token, if wanted."""
        if self._count is None:
            return ()
        if candidate.beam not in self._known:
            self._known[candidate.beam] = LogProbabilities(self._rows[candidate.beam], self._count)
        return (self._known[candidate.beam].token(candidate.token_id),)


def _too_few(found: int, config: GenerationConfig) -> LogitsError:
    """What says that options leave fewer sequences than are wanted."""
    fewer = f", or ask for {found} by num_return_sequences" if found else ""
    return LogitsError(
        f"the options leave {found} of the {config.num_return_sequences} texts that num_return_sequences asks for, of "
        f"at most {config.max_new_tokens} tokens: check those that rule out tokens{fewer}."
    )


def _after_processors(beam: _Beam, scores: Logits) -> Logits:
    """Scores [V] as a beam's processors leave them; raises what these do."""
    for processor in beam.chooser.processors:
        scores = processor(beam.ids, scores)
    return scores


def _check_scores(scores: Logits, position: int) -> None:
    """Raises LogitsError where there is a NaN or +inf."""
    if not scores.max() < np.inf:
        raise LogitsError(
            f"the logits processors return NaN or +inf at position {position}; beams need finite scores, or -inf for a "
            "token that is ruled out"
        )


def _cheapest(source: Sequence, free: list[Sequence]) -> Copy:
    """The copy to one of the ``free`` sequences, that which has most in common with the source."""
    starts = [_common(source.context, other.context, min(source.cached, other.cached)) for other in free]
    best = starts.index(max(starts))
    return Copy(source, free[best], starts[best], source.cached)


def _common(first: list[int], second: list[int], most: int) -> int:
    """How many tokens two contexts begin with alike, at most ``most``; slices are compared faster than tokens."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
