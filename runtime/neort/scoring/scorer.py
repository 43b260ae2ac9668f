"""Scores texts in batches: what can be read together is, the longest first.

Knows token ids and the engine; knows nothing about files, command lines or onnxruntime.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..arrays import Doubles, Ids
from ..engine import Engine, ReadingScores, ScoredReading, TokenScores
from .pairs import Pair
from .results import Score
from .windows import Window

__all__ = ["Scorer"]

SHARED_FROM = 16  # tokens of a context from which on reading it once is worth a run for each continuation


class Scorer:
    """Scores pairs and windows on an engine. Other requests of the engine go on between its batches.

    A pair gets the same bits alone, in any list, and whatever else runs.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def score_pairs(self, pairs: Sequence[Pair]) -> list[Score]:
        """Score each continuation after its context. Equal beginnings of the same length are read once.

        Raises PromptError for pairs that are too long or hold unknown ids; LogitsError when the model yields NaN.
        """
        plan = _Plan()
        places = [plan.add(pair) for pair in pairs]
        return self._scores(plan, pairs, places)

    def score_options(self, groups: Sequence[Sequence[Pair]]) -> list[Score]:
        """Score the pairs of all groups, flat; a longer context that pairs of one group share is read once for all.

        The sums are those of `score_pairs` up to rounding, for a continuation is read in a run of its own. Pairs of one
        group that were truncated to other contexts are scored as there. Raises what `score_pairs` does.
        """
        plan = _Plan()
        places = [place for group in groups for place in plan.add_group(group)]
        return self._scores(plan, [pair for group in groups for pair in group], places)

    def score_windows(self, windows: Sequence[Window]) -> list[Doubles]:
        """The log-probabilities of each window's targets. Raises what `score_pairs` does."""
        readings = [ScoredReading(window.token_ids, (window.targets,)) for window in windows]
        return [scores.own[0].logprobs for scores in self._engine.score(readings)]

    def _scores(self, plan: _Plan, pairs: Iterable[Pair], places: Sequence[_Place]) -> list[Score]:
        results = self._engine.score([draft.reading() for draft in plan.drafts])
        return [_score(pair, place.find(results)) for pair, place in zip(pairs, places, strict=True)]


@dataclass(frozen=True)
class _Place:
    """Where a pair's scores are: a target of a reading, and where that is its first token only, one of a branch."""

    reading: int
    target: int
    branch: tuple[int, int] | None = None

    def find(self, results: Sequence[ReadingScores]) -> list[TokenScores]:
        result = results[self.reading]
        found = [result.own[self.target]]
        return found if self.branch is None else [*found, result.branches[self.branch[0]][self.branch[1]]]


class _Draft:
    """A reading that gets its targets and branches one after the other."""

    def __init__(self, token_ids: Ids) -> None:
        self.token_ids = token_ids
        self.targets: list[Ids] = []
        self.branches: dict[bytes, _Draft] = {}

    def reading(self) -> ScoredReading:
        branches = tuple(branch.reading() for branch in self.branches.values())
        return ScoredReading(self.token_ids, tuple(self.targets), branches)

    def add(self, target: Ids) -> int:
        """Add a target; returns its place."""
        self.targets.append(target)
        return len(self.targets) - 1

    def add_branch(self, continuation: Ids) -> tuple[int, int] | None:
        """Let a continuation, whose first token is a target, go on in a branch; returns the places, if it does."""
        if len(continuation) == 1:
            return None
        key = continuation[:-1].tobytes()
        branch = self.branches.setdefault(key, _Draft(continuation[:-1]))
        return list(self.branches).index(key), branch.add(continuation[1:])


class _Plan:
    """Which readings score some pairs; what several pairs read is read once."""

    def __init__(self) -> None:
        self.drafts: list[_Draft] = []
        self._known: dict[bytes, int] = {}

    def add(self, pair: Pair) -> _Place:
        """Read a pair from its first token to its last but one."""
        key = pair.read.tobytes()
        if key not in self._known:
            self._known[key] = self._new(pair.read)
        reading = self._known[key]
        return _Place(reading, self.drafts[reading].add(pair.continuation))

    def add_group(self, pairs: Sequence[Pair]) -> list[_Place]:
        """Read the contexts of a group of pairs once each, and their continuations after them."""
        members: defaultdict[bytes | int, list[int]] = defaultdict(list)
        for i, pair in enumerate(pairs):
            members[pair.context.tobytes() if len(pair.context) >= SHARED_FROM else i].append(i)
        places: dict[int, _Place] = {}
        for group in members.values():
            if len(group) == 1:
                places[group[0]] = self.add(pairs[group[0]])
                continue
            reading = self._new(pairs[group[0]].context)
            for i in group:
                places[i] = self._after(reading, pairs[i].continuation)
        return [places[i] for i in range(len(pairs))]

    def _after(self, reading: int, continuation: Ids) -> _Place:
        draft = self.drafts[reading]
        return _Place(reading, draft.add(continuation[:1]), draft.add_branch(continuation))

    def _new(self, token_ids: Ids) -> int:
        self.drafts.append(_Draft(token_ids))
        return len(self.drafts) - 1


def _score(pair: Pair, found: Sequence[TokenScores]) -> Score:
    logprobs = np.concatenate([scores.logprobs for scores in found])
    greedy = all(bool(scores.greedy.all()) for scores in found)
    return Score(tuple(pair.continuation.tolist()), tuple(logprobs.tolist()), greedy)
