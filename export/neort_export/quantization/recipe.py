"""What the manifest says in words about how a format's weights were made; its numbers are those of `neort.bundle`.

Imports neither torch nor onnx_ir.
"""

from __future__ import annotations

from typing import Any

from neort.bundle import BlockFormat, Format, RowFormat

from .gptq import DAMPING
from .moments import CHUNK

__all__ = ["GELU_ZERO_POINT", "recipe_section"]

GELU_ZERO_POINT = 16  # of activations after gelu_new, where one scale serves a row


def recipe_section(form: Format, *, gelu_new: bool = True) -> dict[str, Any]:
    """How weights and activations are quantized, for the manifest's ``recipe`` section; nothing in fp32.

    ``gelu_new`` says whether that is the model's activation function.
    """
    if not form.quantized:
        return {}
    return {
        "weights": _weights(form),
        "activations": _activations(form),
        "refinements": _refinements(form, gelu_new=gelu_new),
    }


def _weights(form: Format) -> str:
    linears = form.linears
    if isinstance(linears, RowFormat):
        return f"symmetric int{linears.bits}, one scale per output channel"
    told = f"{_kind(linears)} per {linears.size} weights of an output channel (fewer where that does not divide them)"
    head = "" if form.head == linears else f"; lm_head {_kind(form.head)} per {_size(form.head)}"
    return f"{told}{head}; embedding int{form.embedding.bits} by rows"


def _kind(form: RowFormat | BlockFormat) -> str:
    if isinstance(form, BlockFormat) and form.asymmetric:
        return f"{form.bits} bit, one scale and zero point"
    return f"symmetric {form.bits} bit, one scale"


def _activations(form: Format) -> str:
    linears = form.linears
    if isinstance(linears, RowFormat):
        return "uint8, one scale per token, at run time"
    head = "" if _size(form.head) == _size(linears) else f" (lm_head {_size(form.head)})"
    return f"int8, one scale per {linears.size} channels of a token{head}, at run time"


def _size(form: RowFormat | BlockFormat) -> str:
    return str(form.size) if isinstance(form, BlockFormat) else "row"


def _refinements(form: Format, *, gelu_new: bool) -> list[str]:
    found = ["outlier folding"]
    if gelu_new and isinstance(form.linears, RowFormat):
        found.append(f"zero point {GELU_ZERO_POINT} after gelu_new")
    if form.compensated:
        found.append(f"GPTQ in chunks of {CHUNK} channels, damping {DAMPING}")
    return found
