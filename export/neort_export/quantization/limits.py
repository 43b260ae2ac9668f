"""How far a bundle may be from torch: what stops an export, and what a strict one asks of each format."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from neort.bundle import Quantization
from neort.errors import ArgumentTypeError, ConfigError

__all__ = ["POOR", "STRICT_LIMITS", "Limits"]

POOR = 1.05  # a perplexity ratio beyond this one is poor, see `verification.grades`


@dataclass(frozen=True)
class Limits:
    """The largest figures with which an export succeeds; infinity means no limit.

    ``max_abs_diff``: logits of the fp32 graph against torch's. ``mean_kl``: nats per token, torch against the quantized
    graph. ``perplexity_ratio``: the quantized graph's perplexity over torch's; it fails beyond the limit by more than
    twice its standard error, which a short text makes large. Without others, only a quantization loss that is graded
    poor fails. What the graph computes has a limit of its own (`structure.LIMIT`), and logits in a batch against alone
    none but 0.
    """

    max_abs_diff: float = math.inf
    mean_kl: float = math.inf
    perplexity_ratio: float = POOR

    def __post_init__(self) -> None:
        """Raises ConfigError for a limit that is negative or NaN, ArgumentTypeError for what is no number."""
        for name, limit in asdict(self).items():
            if isinstance(limit, bool) or not isinstance(limit, (int, float)):
                raise ArgumentTypeError(f"the limit {name} is a number, not {type(limit).__name__}")
            if not limit >= 0:
                raise ConfigError(f"the limit {name} is {limit!r}; it must be at least 0")


STRICT_LIMITS: dict[Quantization, Limits] = {
    "int8": Limits(max_abs_diff=1e-4, mean_kl=6e-4, perplexity_ratio=1.002),
    "int8-block": Limits(max_abs_diff=1e-4, mean_kl=5e-4, perplexity_ratio=1.002),
    "int4": Limits(max_abs_diff=1e-4, mean_kl=4e-3, perplexity_ratio=1.01),
    "fp32": Limits(max_abs_diff=1e-4),
}
"""The figures of a sound small model in each format, for ``neort-export --strict``."""
