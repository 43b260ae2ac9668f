"""When a sequence ends, beside its end-of-text tokens and stop strings: the caller's own criteria."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ..arrays import Ids
from ..errors import ArgumentTypeError
from ..wording import shortened

__all__ = ["StoppingCriterion", "is_met"]


class StoppingCriterion(Protocol):
    """Says after each token whether the sequence ends with it; a function, or an object with state of its own.

    Objects are copied for further sequences of a call as a `LogitsProcessor` is.
    """

    def __call__(self, ids: Ids, /) -> bool:
        """Return whether ``ids``, int64 [T], those of the prompt and of the text so far, are complete.

        It may write into them. Every criterion is asked after every token of the sequence's own, once and in their
        order, and never about a draft. With beams one object is asked about every continuation that the search
        considers: what it notes is of all of them.
        """


def is_met(criteria: Sequence[StoppingCriterion], ids: Ids) -> bool:
    """Return whether one of the criteria is met; all of them are asked, in their order.

    Raises ArgumentTypeError where one returns anything but True or False, and what it raises itself.
    """
    met = False
    for criterion in criteria:
        returned = criterion(ids.copy())
        if not isinstance(returned, (bool, np.bool_)):
            raise ArgumentTypeError(
                f"the stopping criterion {criterion!r} returned {shortened(returned)}; it must return True or False"
            )
        met = met or bool(returned)
    return met
