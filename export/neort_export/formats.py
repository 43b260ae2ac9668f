"""The formats that a bundle can have: their names, what the manifest says about them, and when an export succeeds.

Imports neither torch nor onnx_ir, so that the command line can list the formats at once; `graphs.quantize` says which
passes make each format.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .blockwise import BlockFormat
from .verification import Limits

__all__ = ["BLOCKS_OF_4_BITS", "BLOCKS_OF_8_BITS", "FORMATS", "GELU_ZERO_POINT", "Format", "Quantization"]

Quantization = Literal["int8", "int8-block", "int4", "fp32"]

GELU_ZERO_POINT = 16
BLOCKS_OF_8_BITS = BlockFormat(bits=8, size=256)
BLOCKS_OF_4_BITS = BlockFormat(bits=4, size=128, asymmetric=True)


@dataclass(frozen=True)
class Format:
    """Facts about one format.

    ``golden_tolerance``: how far another processor's logits may be from the stored ones, see docs/quantization.md.
    ``recipe``: how weights and activations are quantized, for the manifest. ``uses_moments``: rounding errors are
    compensated by second moments of the activations.
    """

    limits: Limits
    golden_tolerance: float
    recipe: Mapping[str, Any] = field(default_factory=dict)
    uses_moments: bool = False


FORMATS: dict[Quantization, Format] = {
    "int8": Format(
        limits=Limits(mean_kl=6e-4, perplexity_ratio=1.002),
        golden_tolerance=0.25,
        recipe={
            "weights": "symmetric int8, one scale per output channel",
            "activations": "uint8, one scale per token, at run time",
            "refinements": ["outlier folding", f"zero point {GELU_ZERO_POINT} after gelu_new"],
        },
    ),
    "int8-block": Format(
        limits=Limits(mean_kl=5e-4, perplexity_ratio=1.002),
        golden_tolerance=0.25,
        recipe={
            "weights": f"symmetric 8 bit, one scale per {BLOCKS_OF_8_BITS.size} weights of an output channel (fewer "
            "where that does not divide them); embedding int8 by rows",
            "activations": f"int8, one scale per {BLOCKS_OF_8_BITS.size} channels of a token, at run time",
            "refinements": ["outlier folding"],
        },
    ),
    "int4": Format(
        limits=Limits(mean_kl=4e-3, perplexity_ratio=1.01),
        golden_tolerance=0.5,
        recipe={
            "weights": f"4 bit, one scale and zero point per {BLOCKS_OF_4_BITS.size} weights of an output channel "
            f"(fewer where that does not divide them); lm_head symmetric 8 bit, one scale per {BLOCKS_OF_8_BITS.size}; "
            "embedding int8 by rows",
            "activations": f"int8, one scale per {BLOCKS_OF_4_BITS.size} channels of a token (lm_head "
            f"{BLOCKS_OF_8_BITS.size}), at run time",
            "refinements": ["outlier folding", "GPTQ in chunks of 256 channels, damping 0.01"],
        },
        uses_moments=True,
    ),
    "fp32": Format(limits=Limits(), golden_tolerance=1e-3),
}
