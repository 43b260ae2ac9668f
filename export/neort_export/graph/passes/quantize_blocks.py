"""Linear layers with weights in blocks of 4 or 8 bits."""

from __future__ import annotations

import functools
from collections.abc import Callable

import onnx_ir as ir

from ...quantization.blockwise import BlockFormat, Blocks, quantize_rows
from ...quantization.gptq import compensated_rows, inverse_factors
from ...quantization.moments import Moments
from ...quantization.tensors import BlockMemory, Floats, in_blocks
from ..rewrite import CONTRIB, Rewrite, add_initializer, add_node, name_of, nodes, replace_uses, weight_of

__all__ = ["QuantizeBlocks"]

INT8_ACTIVATIONS = 4  # accuracy_level: activations become int8 in blocks, too; less would dequantize whole weights
HEAD = "lm_head.weight"
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
        self._factors = functools.lru_cache(maxsize=1)(_factors)  # one layer's at a time

    def rewrite(self, graph: ir.Graph) -> int:
        linears = [(n, self.head if name_of(n.inputs[1]) == HEAD else self.form) for n in nodes(graph, "Gemm")]
        chosen = [(linear, form) for linear, form in linears if form]
        for linear, form in chosen:
            self._replace(graph, linear, form)
        return len(chosen)

    def quantizer(self, name: str, form: BlockFormat) -> Callable[[Floats], Blocks]:
        """What turns rows of the weight ``name`` into blocks."""
        moments = self.moments
        if moments is None or name == HEAD:
            return lambda rows: quantize_rows(rows, form)
        return lambda rows: compensated_rows(rows, form, self._factors(moments, name))

    def _replace(self, graph: ir.Graph, linear: ir.Node, form: BlockFormat) -> None:
        value = linear.inputs[1]
        weight, name = weight_of(value), name_of(value)
        form = form.fitting(weight.dims[1])
        layer = name.removesuffix(".weight")
        portion = COMPENSATED_PORTION if self.moments else 1
        tensors = in_blocks(weight, form, self.quantizer(name, form), self.memory, portion)
        parts = ("quantized", "scale", "zero_point") if form.asymmetric else ("quantized", "scale")
        inputs: list[ir.Value | None] = [
            add_initializer(graph, f"{name}_{part}", t) for part, t in zip(parts, tensors, strict=False)
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
            name=f"{layer}/product",
        )
        replace_uses(linear.outputs[0], product)
        graph.remove(linear, safe=True)
        del graph.initializers[name]


def _factors(moments: Moments, name: str) -> Floats:
    return inverse_factors(moments.read(name))
