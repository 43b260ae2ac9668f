"""What the inputs of linear layers look like, measured on a short text: the range of every channel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..checkpoint import Checkpoint
from ..errors import CheckpointError
from ..quantization.moments import Moments
from .reference import Hook, Reference

__all__ = ["ChannelRange", "calibrate"]


@dataclass(frozen=True)
class ChannelRange:
    """Smallest and largest value of each channel, float64 [K]."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]


def calibrate(
    reference: Reference,
    sequences: Sequence[Sequence[int]],
    moments: Moments | None = None,
    progress: Callable[[int], object] = lambda _: None,
    *,
    others: Sequence[Sequence[int]] = (),
) -> tuple[dict[str, ChannelRange], list[torch.Tensor]]:
    """Measure channel ranges by the name of the weight that reads them, as the graph has it: q, k and v are one.

    Heads that are filled up with zeros in the graph have these channels here, too.

    ``moments`` is filled with the second moments of the same inputs; ``progress`` gets the bytes of each layer that
    was run. The second result is what `Reference.hidden_states` makes of ``others``, which are not measured.

    Raises CheckpointError where torch computes NaN or infinite inputs.
    """
    ranges = _Ranges(reference.checkpoint, moments)
    hidden = reference.hidden_states(others, ranges, progress, watched=sequences)
    return ranges.by_weight, hidden


class _Ranges(Hook):
    """Channel ranges so far; of several linear layers that are one in the graph, the first tells their input."""

    def __init__(self, checkpoint: Checkpoint, moments: Moments | None) -> None:
        self.checkpoint = checkpoint
        self.moments = moments
        self.by_weight: dict[str, ChannelRange] = {}
        self._told_by: dict[str, str] = {}

    def observe(self, weight: str, x: torch.Tensor) -> None:
        name = self.checkpoint.architecture.multiplied_as(weight)
        if self._told_by.setdefault(name, weight) != weight:
            return  # the same input once more
        rows = self._as_stored(weight, x.reshape(-1, x.shape[-1]))
        low, high = (t.double().numpy() for t in torch.aminmax(rows, dim=0))
        if not np.isfinite(high - low).all():
            raise CheckpointError(
                f"{self.checkpoint.path}: torch computes NaN or infinite inputs of {weight!r} from finite weights, "
                "some of which are too large to run in float32; no quantization can be made of them: convert or train "
                "the checkpoint again"
            )
        if self.moments:
            self.moments.add(name, rows.numpy())
        seen = self.by_weight.get(name)
        if seen is not None:
            low, high = np.minimum(low, seen.low), np.maximum(high, seen.high)
        self.by_weight[name] = ChannelRange(low, high)

    def _as_stored(self, weight: str, rows: torch.Tensor) -> torch.Tensor:
        """The rows [n, K] with the channels that the graph has: heads that the output projection reads are as wide."""
        sizes, names = self.checkpoint.dimensions, self.checkpoint.architecture.names
        zeros = sizes.stored_head_dim - sizes.head_dim
        if not (zeros and weight.endswith(f".{names.attention_output}.weight")):
            return rows
        heads = rows.reshape(len(rows), sizes.num_heads, sizes.head_dim)
        return torch.nn.functional.pad(heads, (0, zeros)).reshape(len(rows), -1)
