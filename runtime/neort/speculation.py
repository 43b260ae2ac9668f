"""Speculative decoding without loss: how many tokens are worth drafting.

A run of the model over the last token and k drafted ones yields the logits of k + 1 positions for little more than
one costs. At each position the request chooses its token as it always does, with the same processors and the same
random number; as long as the choice is what was drafted, the next position's logits are valid. So the tokens are those
of plain decoding, sampled ones too, and a token drafted with certainty is accepted with the probability that the model
gives it, as in rejection sampling (Leviathan et al. 2023, arXiv 2211.17192; Chen et al. 2023, arXiv 2302.01318).

Several rows of attention and a single one add up in another order, though: logits differ by rounding, and where two
tokens are that close, the other one may win. In distribution that is nothing; in greedy text it is a near tie.

Knows acceptance and cost; knows neither models nor where drafts come from.
"""

from __future__ import annotations

from collections.abc import Hashable

from .drafting import Drafter, Rehearse

__all__ = ["ROW_COSTS", "Speculator"]

ROW_COSTS = {
    "int8": 0.1,
    "int8-block": 0.16,
    "int4": 0.27,
    "fp32": 0.06,
}  # of a further row, in decode steps of one row
LONGEST = 16  # drafted tokens
FIRST_GUESS = 0.4  # acceptance before anything is known
WEIGHT = 0.15  # of the newest outcome in the estimate
PROBE = 32  # steps without a draft before another try where drafts have failed


class Speculator:
    """Drafts for one sequence, and learns how often they are right.

    Lengths depend on the sequence alone, not on the clock: one request gives the same runs every time.
    """

    def __init__(self, drafter: Drafter, row_cost: float) -> None:
        """``row_cost`` is that of verifying one more token, in decode steps."""
        self._proposer = drafter.start()
        self._cost = row_cost + drafter.cost
        self._acceptance: dict[Hashable, float] = {}
        self._skipped: dict[Hashable, int] = {}
        self._source: Hashable = None

    def draft(self, context: list[int], room: int, rehearse: Rehearse) -> list[int]:
        """Tokens that may follow ``context``: none, or at most ``room``."""
        self._source = source = self._proposer.source(context)
        if source is None or room < 1:
            return []
        count = best_length(self._acceptance.get(source, FIRST_GUESS), self._cost, min(room, LONGEST))
        if count == 0:
            self._skipped[source] = (self._skipped.get(source, 0) + 1) % PROBE
            count = int(self._skipped[source] == 0)
        return self._proposer.propose(context, count, rehearse) if count else []

    def learn(self, drafted: int, accepted: int) -> None:
        """Note how many of the last draft's tokens were accepted; those behind the first wrong one tell nothing."""
        estimate = self._acceptance.get(self._source, FIRST_GUESS)
        for outcome in [1.0] * accepted + [0.0] * (accepted < drafted):
            estimate += WEIGHT * (outcome - estimate)
        self._acceptance[self._source] = estimate


def best_length(acceptance: float, cost: float, longest: int) -> int:
    """The number k of drafted tokens, 0 to ``longest``, that yields most tokens for their cost.

    A run yields 1 + a + ... + a^k tokens on average and costs 1 + k c steps (Leviathan et al. 2023, equation 1 and
    theorem 3.8), for acceptance a and cost c.
    """
    best, best_rate, expected = 0, 1.0, 1.0
    for k in range(1, longest + 1):
        expected += acceptance**k
        rate = expected / (1 + k * cost)
        if rate > best_rate:
            best, best_rate = k, rate
    return best
