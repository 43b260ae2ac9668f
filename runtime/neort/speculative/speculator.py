"""Speculative decoding without loss: how many tokens are worth drafting.

A run of the model over the last token and k drafted ones yields the logits of k + 1 positions for little more than
one costs. At each position the request chooses its token as it always does, with the same processors and the same
random number; as long as the choice is what was drafted, the next position's logits are valid. So the tokens are those
of plain decoding, sampled ones too, and a token drafted with certainty is accepted with the probability that the model
gives it, as in rejection sampling (Leviathan et al. 2023, arXiv 2211.17192; Chen et al. 2023, arXiv 2302.01318).

Several rows of attention and a single one add up in another order, though: logits differ by rounding, and where two
tokens are that close, the other one may win. In distribution that is nothing; in greedy text it is a near tie.

Drafting lives on a budget, in decode steps: a little at first, what it has won, and one in a hundred of the tokens
written. So text on which every draft fails costs one percent more, whatever the text, and long drafts come only after
short ones that were right.

Knows acceptance and cost; knows neither models nor where drafts come from.
"""

from __future__ import annotations

from collections.abc import Hashable

from ..bundle import FORMATS, Cost, format_of
from .drafters import Drafter, Fork

__all__ = ["COSTS", "Cost", "Speculator", "draft_cost", "verification_cost"]

COSTS = {form.name: form.cost for form in FORMATS.values()}
OVERHEAD = 2_000_000  # bytes of weights that are read in the time that a run takes besides, whatever its model
LONGEST = 16  # drafted tokens
FIRST_GUESS = 0.5  # acceptance before anything is known
WEIGHT = 0.1  # of the newest outcome in the estimate
PROBE = 32  # steps without a draft before another try where drafts have failed
ALLOWANCE = 0.01  # decode steps that drafting may lose per token written
START, SAVED = 0.6, 4.0  # decode steps in the budget: at first, and at most


def verification_cost(quantization: str, weight_bytes: int, stated: Cost | None = None) -> Cost:
    """The cost for a model of a format and of a size.

    For a format that this version does not know it is ``stated``, the cost in the bundle's manifest; where that has
    none, the format is taken to be dear.
    """
    form = format_of(quantization)
    known = form.cost if form else stated or max(COSTS.values(), key=lambda cost: cost.token)
    return Cost(known.run + OVERHEAD / (weight_bytes + OVERHEAD), known.token)


def draft_cost(draft_bytes: int, weight_bytes: int) -> float:
    """Return the decode steps that a draft model takes for a token: decoding is bound by reading weights."""
    return (draft_bytes + OVERHEAD) / (weight_bytes + OVERHEAD)


class Speculator:
    """Drafts for one sequence, and learns how often they are right.

    Lengths depend on the sequence alone, not on the clock: one request gives the same runs every time.
    """

    def __init__(self, drafter: Drafter, cost: Cost) -> None:
        """``cost`` is that of verifying; what the drafter's own tokens cost comes on top."""
        self._proposer = drafter.start()
        self._cost = Cost(cost.run, cost.token + drafter.cost)
        self._budget = START
        self._acceptance: dict[Hashable, float] = {}
        self._skipped: dict[Hashable, int] = {}
        self._source: Hashable = None

    def draft(self, context: list[int], room: int, fork: Fork) -> list[int]:
        """Return tokens that may follow ``context``: none, or at most ``room``. ``fork`` is that of the request."""
        self._budget = min(self._budget + ALLOWANCE, SAVED)
        room = min(room, LONGEST, int((self._budget - self._cost.run) / self._cost.token))
        if room < 1:
            return []
        self._source = source = self._proposer.source(context)
        if source is None:
            return []
        count = best_length(self._acceptance.get(source, FIRST_GUESS), self._cost, room)
        if count == 0:
            self._skipped[source] = (self._skipped.get(source, 0) + 1) % PROBE
            count = int(self._skipped[source] == 0)
        return self._proposer.propose(context, count, fork) if count else []

    def learn(self, drafted: int, accepted: int) -> None:
        """Note how many of the last draft's tokens were accepted; those after the first wrong one tell nothing."""
        self._budget += accepted - self._cost.run - drafted * self._cost.token
        estimate = self._acceptance.get(self._source, FIRST_GUESS)
        for outcome in [1.0] * accepted + [0.0] * (accepted < drafted):
            estimate += WEIGHT * (outcome - estimate)
        self._acceptance[self._source] = estimate


def best_length(acceptance: float, cost: Cost, longest: int) -> int:
    """Return the number k of drafted tokens, 0 to ``longest``, that yields most tokens for their cost.

    A run yields 1 + a + ... + a^k tokens on average and costs 1 + r + k c steps (Leviathan et al. 2023, equation 1 and
    theorem 3.8), for acceptance a and cost r of the run, c of a token.
    """
    best, best_rate, expected = 0, 1.0, 1.0
    for k in range(1, longest + 1):
        expected += acceptance**k
        rate = expected / (1 + cost.run + k * cost.token)
        if rate > best_rate:
            best, best_rate = k, rate
    return best
