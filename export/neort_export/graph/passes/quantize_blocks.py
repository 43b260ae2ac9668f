"""Linear layers with weights in blocks of 4 or 8 bits."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import onnx_ir as ir

from ...quantization.blockwise import BlockFormat, Blocks, quantize_rows
from ...quantization.gptq import compensated_rows, inverse_factors
from ...quantization.moments import Moments
from ...quantization.tensors import BlockMemory, Floats, in_blocks
from .. import names
from ..rewrite import CONTRIB, Rewrite, add_initializer, add_node, is_head, name_of, nodes, replace_uses, weight_of

__all__ = ["QuantizeBlocks"]

INT8_ACTIVATIONS = 4  # accuracy_level: activations become int8 in blocks, too; less would dequantize whole weights
BIAS = 5  # its place among MatMulNBits' inputs
COMPENSATED_PORTION = 2  # compensation works column by column: longer columns are faster, and take memory


class QuantizeBlocks(Rewrite):
    """Gemm(x, W, bias) -> MatMulNBits(x, levels, scales, zero points or none, bias).

    Each block of ``form.size`` weights of an output channel has its own scale, and so has each block of activations,
    which onnxruntime quantizes inside the operator.
    """

    def __init__(self, form: BlockFormat, head: BlockFormat | None, moments: Moments | None = None) -> None:
        """``head`` is the format of lm_head; None leaves it to a later pass.

        With the ``moments`` of the layers' inputs, rounding errors are compensated (see gptq), but for lm_head's.
        """
        super().__init__()
        self.form = form
        self.head = head
        self.moments = moments
        self.memory = BlockMemory()
        self._factors = lru_cache(maxsize=1)(_factors)  # one layer's at a time

    def rewrite(self, graph: ir.Graph) -> int:
        linears = [(n, self.head if is_head(n) else self.form) for n in nodes(graph, "Gemm")]
        chosen = [(linear, form) for linear, form in linears if form]
        for linear, form in chosen:
            self._replace(graph, linear, form)
        return len(chosen)

    def quantizer(self, name: str, form: BlockFormat) -> Callable[[Floats], Blocks]:
        """Return what turns rows [n, K] of the weight ``name``, which is not lm_head's, into blocks."""
        moments = self.moments
        if moments is None:
            return lambda rows: quantize_rows(rows, form)
        return lambda rows: compensated_rows(rows, form, self._factors(moments, name))

    def _replace(self, graph: ir.Graph, linear: ir.Node, form: BlockFormat) -> None:
        value = linear.inputs[1]
        weight, name = weight_of(value), name_of(value)
        form = form.fitting(weight.dims[1])
        portion = COMPENSATED_PORTION if self.moments else 1
        quantize = partial(quantize_rows, form=form) if is_head(linear) else self.quantizer(name, form)
        tensors = in_blocks(weight, form, quantize, self.memory, portion)
        called = [names.quantized, names.scale, *([names.zero_point] if form.asymmetric else [])]
        inputs: list[ir.Value | None] = [
            add_initializer(graph, call(name), tensor) for call, tensor in zip(called, tensors, strict=False)
        ]
        bias = linear.inputs[2] if len(linear.inputs) > 2 else None
        if bias is not None:
            inputs += [None] * (BIAS - 1 - len(inputs)) + [bias]
        rows, columns = weight.dims
        product = add_node(
            linear,
            "MatMulNBits",
            [linear.inputs[0], *inputs],
            {"N": rows, "K": columns, "bits": form.bits, "block_size": form.size, "accuracy_level": INT8_ACTIVATIONS},
            domain=CONTRIB,
            name=names.product(name),
        )
        replace_uses(linear.outputs[0], product)
        graph.remove(linear, safe=True)
        del graph.initializers[name]


def _factors(moments: Moments, name: str) -> Floats:
    return inverse_factors(moments.read(name))
