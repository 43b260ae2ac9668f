"""What the known checkpoints would do on a machine of these limits: reckoned, not run.

A decode step reads every weight once, at a share of the bandwidth, and each layer costs some time besides; a prompt's
products run at a share of the machine's. The shares are those of the 125M and 1.3B shapes in docs/benchmarks.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..bundle import FORMATS, WEIGHTS, Bundle, Format, Quantization
from .limits import Limits

__all__ = ["Expected", "bundle_bytes", "expected", "expected_rate", "fitting_format", "known_presets"]

BANDWIDTH_SHARE: dict[Quantization, float] = {"int8": 0.85, "int8-block": 0.95, "int4": 0.65, "fp32": 0.85}
PRODUCT_SHARE: dict[Quantization, float] = {"int8": 0.65, "int8-block": 0.45, "int4": 0.38, "fp32": 0.7}
LAYER_SECONDS = 120e-6
OTHER_BYTES = 250e6  # what a process takes beside the weights
FAST_INT8 = 1.5  # times the rate of fp32 products: from there on int8 pays for prompts


@dataclass(frozen=True)
class Shape:
    """The sizes of a checkpoint that a prediction needs."""

    name: str
    width: int
    layers: int
    vocabulary: int

    @property
    def matrices(self) -> tuple[tuple[int, int], ...]:
        """Rows and columns of one layer's linear maps."""
        width = self.width
        return (3 * width, width), (width, width), (4 * width, width), (width, 4 * width)

    def step_bytes(self, form: Format) -> int:
        """Bytes of weights that a decode step reads."""
        layer = sum(form.linear_bytes(rows, columns) for rows, columns in self.matrices)
        return self.layers * layer + form.head_bytes(self.vocabulary, self.width)

    @property
    def operations(self) -> int:
        """Operations of the linear maps for one token of a prompt."""
        return 2 * self.layers * sum(rows * columns for rows, columns in self.matrices)


@dataclass(frozen=True)
class Expected:
    """What a checkpoint in one format is expected to do: tokens per second, and bytes of memory.

    ``fits`` says whether the memory suffices; None where nobody knows how much there is.
    """

    checkpoint: str
    format: str
    prompt_rate: float
    decode_rate: float
    memory: float
    fits: bool | None


def known_presets() -> list[Shape]:
    """The shapes of the published checkpoints; none where the models' package is not installed."""
    try:
        from neort_models import PRESETS
    except ImportError:
        return []
    return [Shape(known.name, known.hidden_size, known.num_layers, known.vocab_size) for known in PRESETS.values()]


def expected(limits: Limits, memory: int | None) -> Iterator[Expected]:
    """A prediction for every known checkpoint in every format."""
    for shape in known_presets():
        for name, form in FORMATS.items():
            size = shape.step_bytes(form)
            rate = limits.fp32_operations_per_second
            if form.quantized:
                rate = max(rate, limits.int8_operations_per_second)
            needed = size + OTHER_BYTES
            yield Expected(
                shape.name,
                name,
                prompt_rate=PRODUCT_SHARE[name] * rate / shape.operations,
                decode_rate=expected_rate(size, shape.layers, name, limits),
                memory=needed,
                fits=None if memory is None else needed <= memory,
            )


def expected_rate(step_bytes: float, layers: int, name: Quantization, limits: Limits) -> float:
    """Tokens per second of one sequence."""
    reading = step_bytes / (BANDWIDTH_SHARE[name] * limits.read_bytes_per_second)
    return 1 / (reading + layers * LAYER_SECONDS)


def bundle_bytes(bundle: Bundle) -> float:
    """Bytes of weights that a decode step of a bundle reads: all but the embeddings, of which it takes a row."""
    spec, form = bundle.spec, bundle.format
    embedding = 0 if form is None else form.embedding_bytes(spec.vocab_size, spec.hidden_size)
    return bundle.file(WEIGHTS).stat().st_size - embedding


def fitting_format(limits: Limits, saturates: bool) -> tuple[Quantization, str]:
    """Which format suits a machine of these limits, and why."""
    ratio = limits.int8_operations_per_second / limits.fp32_operations_per_second
    if saturates:
        return "int8-block", "here int8 products of whole rows take a slower kernel to be exact, those of blocks do not"
    if ratio >= FAST_INT8:
        return "int8", f"int8 products run at {ratio:.1f} times the rate of fp32; int4 writes one text at a time faster"
    return "int8-block", f"int8 products run at {ratio:.1f} times the rate of fp32 only, so prompts gain little by int8"
