"""Prompts on their way into the cache: one run in a turn, so that what is decoded goes on between two turns.

A prompt is cut at multiples of the chunk after what was reused of stored ones, whoever else runs: its bits are those
that it has alone. Short prompts share a run, which gives each the bits of its own.

Knows contexts, runs and stored prefixes; knows nothing about tokens' choice or who is let in.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from ..arrays import Ids, Logits
from ..kvcache import PrefixCache
from ..runner import ModelRunner
from .figures import Counts
from .group import ChargedTo, Group, Sequence
from .reading import shares_run
from .scheduler import Scheduler

__all__ = ["Prefill"]


class Prefill:
    """Runs the prompts that a scheduler has let in."""

    def __init__(
        self,
        runner: ModelRunner,
        scheduler: Scheduler,
        chunk: int,
        prefixes: PrefixCache | None,
        counts: Counts,
        take: Callable[[Group, list[Logits]], None],
    ) -> None:
        """A run has ``chunk`` tokens at most. ``take`` gets a request and the logits [V] after its contexts."""
        self.chunk = chunk
        self._runner = runner
        self._scheduler = scheduler
        self._prefixes = prefixes
        self._counts = counts
        self._take = take

    def turn(self, most_rows: int) -> bool:
        """Run the next prompt or a part of it, or several of ``most_rows`` tokens together.

        Returns whether there was any. What was stored as a whole needs no run, and takes no turn unless it is long.
        """
        while (group := self._scheduler.next_prompt(self.chunk)) is not None:
            ran = True
            with ChargedTo(group):
                ran = self._advance(group, most_rows)
            if ran:
                return True
        return False

    def finish(self, group: Group) -> None:
        """Run what is left of a request's contexts, whatever else there is."""
        while group.filling and not group.done:
            self._advance(group, 0)

    def _advance(self, group: Group, most_rows: int) -> bool:
        """Take a request one run further; returns whether that took as long as a run."""
        sequence = next((each for each in group.active if each.logits is None), None)
        if sequence is None or self._reuse(sequence):
            self._complete(group)
            return sequence is not None and sequence.cached > self.chunk
        batch = self._batch(sequence, most_rows)
        try:
            self._run(batch)
        except Exception:
            if len(batch) == 1:
                raise
            for each in batch:  # whose it is shows when each is run by itself, with the same bits
                with ChargedTo(each.group):
                    self._run_again(each)
        for each in batch:
            with ChargedTo(each.group):
                self._complete(each.group)
        return True

    def _reuse(self, sequence: Sequence) -> bool:
        """Copy what is stored of a context that is not begun; returns whether all of it was, its logits included."""
        group = sequence.group
        if group.started is None:
            group.started = time.perf_counter()
        if self._prefixes and sequence.cached == 0 and not _scored(sequence):
            ids = _ids(sequence)
            reused, logits = self._prefixes.restore(self._slot(sequence), ids)
            sequence.cached = sequence.reused = reused
            if logits is not None:
                self._end(sequence, ids, logits)
        return sequence.logits is not None

    def _batch(self, first: Sequence, most_rows: int) -> list[Sequence]:
        """The sequences that are to be begun in the run of ``first``, side by side; at least that one."""
        batch, longest, tokens = [first], len(first.context), len(first.context)
        for group in self._scheduler.prompts if self._is_short(first) else ():
            other = group.active[0]
            length = len(other.context)
            together = (len(batch) + 1, max(longest, length), tokens + length)
            if other in batch or not self._is_short(other) or not shares_run(*together, most_rows):
                continue
            if any(self._profits(other, each) for each in batch):
                continue
            with ChargedTo(group):
                self._reuse(other)
                if other.cached == 0:
                    batch, (_, longest, tokens) = [*batch, other], together
        return self._scheduler.slots.put_side_by_side(batch) if len(batch) > 1 else batch

    def _is_short(self, sequence: Sequence) -> bool:
        """Whether a context is not begun, one run does for the whole request, and only the last logits are wanted."""
        alone = len(sequence.group.active) == 1 and not _scored(sequence)
        return alone and sequence.cached == 0 and sequence.logits is None and len(sequence.context) <= self.chunk

    def _profits(self, other: Sequence, first: Sequence) -> bool:
        """Whether a context had better wait until another one is stored: it is the same, or half of it is."""
        prefixes, length = self._prefixes, len(other.context)
        if prefixes is None or prefixes.budget == 0:
            return False
        if prefixes.granularity > 1:
            return other.context == first.context
        half = -(-length // 2)
        return other.context[:half] == first.context[:half]

    def _run(self, batch: list[Sequence]) -> None:
        """Run the next chunk of a context, or the beginnings of several."""
        started = time.perf_counter()
        if len(batch) == 1:
            self._run_chunk(batch[0])
        else:
            self._run_together(batch)
        for sequence in batch:
            sequence.group.prefill_seconds += time.perf_counter() - started

    def _run_again(self, sequence: Sequence) -> None:
        """Run a context by itself, of which a run of several was to take the beginning and may have."""
        if sequence.logits is None:
            sequence.cached = 0
            self._run([sequence])

    def _run_chunk(self, sequence: Sequence) -> None:
        """Only the last chunk computes logits, of its end, unless those of a prompt are asked for."""
        ids, start, scored = _ids(sequence), sequence.cached, _scored(sequence)
        chunk = ids[start : start + self.chunk]
        last = start + len(chunk) == len(ids)
        rows = self._runner.prefill(self._slot(sequence), chunk, start, len(chunk) if scored else int(last))
        if scored:
            sequence.group.note_prompt(rows, start)
        self._counts.prefill_tokens += len(chunk)
        sequence.cached += len(chunk)
        if last:
            self._end(sequence, ids, rows[-1])

    def _run_together(self, batch: list[Sequence]) -> None:
        prompts = [_ids(sequence) for sequence in batch]
        rows = self._runner.prefill_prompts(self._slot(batch[0]), prompts, 1)
        self._counts.prefill_tokens += sum(len(prompt) for prompt in prompts)
        for sequence, prompt, own in zip(batch, prompts, rows, strict=True):
            sequence.cached = len(prompt)
            with ChargedTo(sequence.group):
                self._end(sequence, prompt, own[-1])

    def _end(self, sequence: Sequence, ids: Ids, logits: Logits) -> None:
        """Note the logits [V] after a context, and store it if it is a prompt."""
        group = sequence.group
        sequence.logits = logits
        if group.new_tokens:  # what goes on after a full context is of no use later
            return
        is_first = sequence is group.sequences[0]
        if is_first:
            group.reused = sequence.reused
        if self._prefixes:
            self._counts.prefix_queries += len(ids)
            self._counts.prefix_hits += sequence.reused
            self._prefixes.store(self._slot(sequence), ids, logits, group.pin if is_first else None)

    def _complete(self, group: Group) -> None:
        """Let a request take what follows its contexts, if all of them were run."""
        active = group.active
        rows = [sequence.logits for sequence in active if sequence.logits is not None]
        if len(rows) == len(active) and not group.done:
            for sequence in active:
                sequence.logits = None
            group.filling = False
            self._take(group, rows)

    def _slot(self, sequence: Sequence) -> int:
        return self._scheduler.slots.owners.index(sequence)


def _scored(sequence: Sequence) -> bool:
    """Whether the log-probabilities of a context's tokens are wanted."""
    group = sequence.group
    return not group.new_tokens and sequence is group.sequences[0] and group.config.prompt_logprobs is not None


def _ids(sequence: Sequence) -> Ids:
    return np.asarray(sequence.context, np.int64)
