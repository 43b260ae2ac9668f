"""Optimizers of a model's weights, and how their rates rise and fall over a run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .options import Options

if TYPE_CHECKING:
    import torch

__all__ = ["WARM_UP", "learning_rate_factor", "make_optimizers", "set_rates"]

WARM_UP = 0.02  # share of the run in which the learning rate rises
ADAMW: dict[str, dict[str, Any]] = {"adamw": {"betas": (0.9, 0.95)}, "muon": {"betas": (0.9, 0.97), "eps": 1e-10}}
PEAK = "peak"  # a group's rate where the factor is 1


def learning_rate_factor(share_done: float, optimizer: str = "adamw") -> float:
    """Return the factor of the peak rate: it rises in a line to 1, then falls to 0, along a cosine or (Muon) a line."""
    fall = 1 - share_done if optimizer == "muon" else (1 + math.cos(math.pi * share_done)) / 2
    return min(share_done / WARM_UP, fall)


def make_optimizers(model: Any, options: Options) -> list[torch.optim.Optimizer]:
    """Make an AdamW that decays matrices, not biases and norms; or Muon for the layers' matrices, AdamW for the rest.

    Muon makes each step of a matrix orthogonal, so that all its directions learn alike; embeddings, of which a step
    reads a few rows, stay with AdamW.
    """
    from torch.optim import AdamW, Muon

    weights = list(model.parameters())
    embeddings = {id(module.weight) for module in (model.get_input_embeddings(), model.base_model.wpe)}
    matrices = [weight for weight in weights if weight.ndim >= 2 and id(weight) not in embeddings]
    vectors = [weight for weight in weights if weight.ndim < 2]
    others = [weight for weight in weights if id(weight) in embeddings]
    decayed = others if options.optimizer == "muon" else [weight for weight in weights if weight.ndim >= 2]
    groups = [
        {"params": decayed, "weight_decay": options.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = [AdamW(groups, lr=options.learning_rate, **ADAMW[options.optimizer])]
    if options.optimizer == "muon":
        optimizers.append(Muon(matrices, lr=options.matrix_rate, weight_decay=options.weight_decay))
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group[PEAK] = group["lr"]
    return optimizers


def set_rates(optimizers: list[torch.optim.Optimizer], factor: float) -> None:
    """Set every group's rate to that factor of its peak."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group[PEAK] * factor
