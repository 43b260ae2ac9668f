"""The formats that a bundle can have: their names, what the manifest says about them, their sizes and rates, and the
limits of a strict export.

Imports neither torch nor onnx_ir, so that the command line can list the formats at once; `graphs.quantize` says which
passes make each format.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .quantization.blockwise import BlockFormat
from .verification.agreement import Limits

__all__ = ["BLOCKS_OF_4_BITS", "BLOCKS_OF_8_BITS", "FORMATS", "GELU_ZERO_POINT", "Format", "Quantization"]

Quantization = Literal["int8", "int8-block", "int4", "fp32"]

GELU_ZERO_POINT = 16
BLOCKS_OF_8_BITS = BlockFormat(bits=8, size=256)
BLOCKS_OF_4_BITS = BlockFormat(bits=4, size=128, asymmetric=True)
SCALE_BYTES = 4


@dataclass(frozen=True)
class Format:
    """Facts about one format.

    ``strict_limits``: the figures of a sound small model, for `neort-export --strict`. ``golden_tolerance``: how far
    another processor's logits may be from the stored ones at least, see docs/quantization.md. ``decode_rate``: tokens
    per second of one sequence over those of int8 (benchmarks/results/speed.json). ``better``: the next format that
    loses less. ``linears`` and ``head``: how their weights are cut into blocks; None is int8 with a scale per row, or
    float32 in fp32. ``recipe``: how weights and activations are quantized, for the manifest. ``uses_moments``: rounding
    errors are compensated by second moments of the activations.
    """

    strict_limits: Limits
    golden_tolerance: float
    decode_rate: float
    better: Quantization | None
    linears: BlockFormat | None = None
    head: BlockFormat | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    uses_moments: bool = False

    def linear_bytes(self, rows: int, columns: int) -> int:
        """Bytes of a linear layer's weights, scales included."""
        return self._bytes(self.linears, rows, columns)

    def head_bytes(self, rows: int, columns: int) -> int:
        """Bytes of lm_head, which is stored beside the embedding even where the two are tied."""
        return self._bytes(self.head, rows, columns)

    def embedding_bytes(self, rows: int, columns: int) -> int:
        """Bytes of the token embedding."""
        return self._bytes(None, rows, columns)

    def _bytes(self, form: BlockFormat | None, rows: int, columns: int) -> int:
        if not self.recipe:
            return 4 * rows * columns
        if form is None:
            return rows * (columns + SCALE_BYTES)
        form = form.fitting(columns)
        blocks = form.block_count(columns)
        zeros = form.packed_bytes(blocks) if form.asymmetric else 0
        return rows * (blocks * (form.packed_bytes(form.size) + SCALE_BYTES) + zeros)


FORMATS: dict[Quantization, Format] = {
    "int8": Format(
        strict_limits=Limits(max_abs_diff=1e-4, mean_kl=6e-4, perplexity_ratio=1.002),
        golden_tolerance=0.25,
        decode_rate=1.0,
        better="int8-block",
        recipe={
            "weights": "symmetric int8, one scale per output channel",
            "activations": "uint8, one scale per token, at run time",
            "refinements": ["outlier folding", f"zero point {GELU_ZERO_POINT} after gelu_new"],
        },
    ),
    "int8-block": Format(
        strict_limits=Limits(max_abs_diff=1e-4, mean_kl=5e-4, perplexity_ratio=1.002),
        golden_tolerance=0.25,
        decode_rate=1.3,
        better="fp32",
        linears=BLOCKS_OF_8_BITS,
        head=BLOCKS_OF_8_BITS,
        recipe={
            "weights": f"symmetric 8 bit, one scale per {BLOCKS_OF_8_BITS.size} weights of an output channel (fewer "
            "where that does not divide them); embedding int8 by rows",
            "activations": f"int8, one scale per {BLOCKS_OF_8_BITS.size} channels of a token, at run time",
            "refinements": ["outlier folding"],
        },
    ),
    "int4": Format(
        strict_limits=Limits(max_abs_diff=1e-4, mean_kl=4e-3, perplexity_ratio=1.01),
        golden_tolerance=0.5,
        decode_rate=1.6,
        better="int8-block",
        linears=BLOCKS_OF_4_BITS,
        head=BLOCKS_OF_8_BITS,
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
    "fp32": Format(strict_limits=Limits(max_abs_diff=1e-4), golden_tolerance=1e-3, decode_rate=0.3, better=None),
}
