"""Steps of the sequences that run: one token for each, several for one alone where drafts are right.

Knows runs and whose tokens come of them; knows nothing about who is let in, prompts' runs or text.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..arrays import Logits
from ..runner import IDLE, ModelRunner
from ..speculative import Speculator
from .figures import Counts
from .group import ChargedTo, Group, Sequence, fail
from .prefill import Prefill
from .request import Request
from .scheduler import Scheduler

__all__ = ["Decoding"]


class Decoding:
    """Decodes what a scheduler has let in, and lets requests take what their runs give."""

    def __init__(
        self, runner: ModelRunner, scheduler: Scheduler, counts: Counts, speculate: Callable[[], Speculator] | None
    ) -> None:
        """``speculate`` makes what drafts for a sequence that runs alone."""
        self._runner = runner
        self._scheduler = scheduler
        self._counts = counts
        self.speculate = speculate

    def take(self, request: Group, rows: list[Logits]) -> None:
        """Let a request decide on its next tokens, and its sequences' rows follow."""
        before = request.new_tokens
        if copies := request.take(rows):
            places = self._scheduler.slots.places
            for copy in copies:
                self._runner.move(places[copy.source], places[copy.target], copy.stop, copy.start)
        self._counts.generated_tokens += request.new_tokens - before

    def _restart_full(self) -> None:
        """End the requests whose context is full, or have them read again what is left when the oldest is dropped."""
        for request in self._scheduler.full():
            with ChargedTo(request):
                self._scheduler.restart(request)
                if isinstance(request, Request):
                    request.speculator = None  # it followed the longer context
        self._scheduler.drop_done()

    def step(self, prefill: Prefill) -> None:
        """One token for each running sequence; several for a single one, where drafts are right.

        ``prefill`` runs each by itself where a run of all fails.
        """
        self._restart_full()
        places = self._scheduler.slots.places
        running = {sequence: slot for sequence, slot in places.items() if not sequence.group.filling}
        requests = self._scheduler.running
        if list(running.values()) == [0] and isinstance(requests[0], Request):
            with ChargedTo(requests[0]):
                self._decode_alone(requests[0])
        elif running:
            self._decode_together(running, requests, prefill)

    def _decode_together(self, running: dict[Sequence, int], requests: list[Group], prefill: Prefill) -> None:
        try:
            token_ids = np.zeros(max(running.values()) + 1, np.int64)
            lengths = np.full(len(token_ids), IDLE, np.int32)
            for sequence, slot in running.items():
                token_ids[slot], lengths[slot] = sequence.context[-1], sequence.cached
            logits = self._runner.decode(token_ids, lengths)
        except Exception:  # whose it is shows when each is run by itself, with the same bits
            for request in requests:
                with ChargedTo(request):
                    request.filling = True
                    prefill.finish(request)
            return
        for request in requests:
            try:
                active = request.active
                for sequence in active:
                    sequence.cached += 1
                self.take(request, [logits[running[sequence]] for sequence in active])
            except BaseException as error:  # as `ChargedTo`, which takes longer
                fail(request, error)

    def _decode_alone(self, request: Request) -> None:
        drafted = self._draft(request)
        if request.done:
            return
        if drafted:
            self._extend(request, drafted)
        else:
            (sequence,) = request.sequences
            lengths = np.array([sequence.cached], np.int32)
            self._advance(request, self._runner.decode(np.array(sequence.context[-1:]), lengths)[0])

    def _draft(self, request: Request) -> list[int]:
        """Tokens that may come next; several sequences share a run's weights already, so only one alone has any.

        Raises ConfigError where one of the request's processors cannot be copied, as a draft model needs it.
        """
        if self.speculate is None:
            return []
        (sequence,) = request.sequences
        request.speculator = request.speculator or self.speculate()
        positions = self._runner.spec.max_position_embeddings - sequence.cached
        wanted = request.config.max_new_tokens - len(request.token_ids)
        return request.speculator.draft(sequence.context, min(positions, wanted) - 1, request.fork)

    def _extend(self, request: Request, drafted: list[int]) -> None:
        """Run the last token and the drafted ones; hand out tokens up to the first that was not drafted.

        The cache then holds rows of rejected tokens, beyond ``cached``, which the next run overwrites.
        """
        (sequence,) = request.sequences
        ids = np.array([sequence.context[-1], *drafted], np.int64)
        before = request.accepted
        request.drafted += len(drafted)
        self._counts.drafted += len(drafted)
        logits = self._runner.extend(ids, sequence.cached)
        for row, expected in zip(logits, [*drafted, None], strict=True):
            self._advance(request, row)
            if request.done or sequence.context[-1] != expected:
                break
            request.accepted += 1
            self._counts.accepted += 1
        if request.speculator:
            request.speculator.learn(len(drafted), request.accepted - before)

    def _advance(self, request: Request, row: Logits) -> None:
        """Note that the last token is in the cache, and let the request choose the next one from ``row`` [V]."""
        request.sequences[0].cached += 1
        self.take(request, [row])
