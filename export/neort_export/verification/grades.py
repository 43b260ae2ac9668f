"""Quantization loss in words: how good a bundle is beside torch, and which format to take where it is not good enough.

KL divergence is the same thing as perplexity, seen from the model: exp of the mean KL(torch || bundle) is by how much
perplexity rises on text that torch's own distribution writes. It has a small error on short texts, where that of the
measured ratio is large; but on text that the model cannot predict at all, a random model's for instance, it says
little. So both count for the grade, and a bundle is poor only by what was measured on the text.
"""

from __future__ import annotations

import math
from typing import Literal, cast

from neort.bundle import FORMATS, Quantization

from ..checkpoint import Checkpoint
from .agreement import Agreement

__all__ = ["GRADES", "Grade", "expected_bytes", "grade", "meaning", "next_better"]

Grade = Literal["excellent", "good", "noticeable", "poor"]

GRADES: dict[Grade, float] = {"excellent": 1.002, "good": 1.01, "noticeable": 1.05, "poor": math.inf}
"""The largest perplexity ratio of each grade."""


def grade(agreement: Agreement) -> Grade:
    """Grade a quantized graph.

    The worse of the perplexity ratio's and of the mean KL's, which counts as the ratio exp(KL). Poor is only what is
    poor by the perplexity ratio less two standard errors.
    """
    ratios = agreement.perplexity_ratio, math.exp(min(agreement.mean_kl, 1.0))
    if math.isnan(agreement.mean_kl):
        return "poor"
    found = max(map(_grade_of, ratios), key=list(GRADES).index)
    return "noticeable" if found == "poor" and agreement.certain_perplexity_ratio <= GRADES["noticeable"] else found


def _grade_of(ratio: float) -> Grade:
    return next((name for name, limit in GRADES.items() if ratio <= limit), "poor")  # NaN is poor


def meaning(name: Grade) -> str:
    """Say in words what a grade means for perplexity."""
    if name == "poor":
        return f"perplexity more than {_percent(GRADES['noticeable'])} above torch's"
    return f"perplexity at most {_percent(GRADES[name])} above torch's"


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):.2g} %"


def next_better(checkpoint: Checkpoint, quantization: Quantization) -> list[str]:
    """Return a sentence about the format that loses less, with its size and its speed; none where there is none."""
    better = FORMATS[quantization].better
    if better is None:
        return []
    size, now = (expected_bytes(checkpoint, name) / 1e6 for name in (better, quantization))
    rate = FORMATS[better].decode_rate / FORMATS[quantization].decode_rate
    return [
        f"The next better format is {better} (--quantization {better}): about {size:,.0f} MB of weights instead of "
        f"{now:,.0f}, and one sequence decodes at about {rate:.1f} times the rate"
    ]


def expected_bytes(checkpoint: Checkpoint, quantization: Quantization) -> int:
    """Estimate how many bytes of weights a bundle of the checkpoint has."""
    form, names = FORMATS[quantization], checkpoint.architecture.names
    total = 0
    for name, shape in checkpoint.expected_shapes().items():
        if name == names.token_embedding:
            total += form.embedding_bytes(*cast(tuple[int, int], shape))
        elif checkpoint.is_linear(name):
            total += form.linear_bytes(*cast(tuple[int, int], shape))
        elif name != names.head:
            total += 4 * math.prod(shape)
    return total + form.head_bytes(*cast(tuple[int, int], checkpoint.shape(names.head)))
