"""Linear layers in int8, with one activation scale per row."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...quantization.recipe import GELU_ZERO_POINT
from ...quantization.tensors import INT8_MAX, quantized_columns, row_scales
from .. import names
from ..rewrite import (
    CONTRIB,
    Rewrite,
    add_initializer,
    add_node,
    axis,
    constant,
    is_head,
    name_of,
    named_value,
    nodes,
    producer,
    replace_uses,
    weight_of,
)

__all__ = ["GELU_ZERO_POINT", "QuantizeLinears"]

MIDDLE = 128  # the zero point of values of both signs
GELU_MINIMUM = 0.17004  # |min gelu_new(x)|, at x = -0.7525


class QuantizeLinears(Rewrite):
    """Gemm(x, W, bias) -> MatMulIntegerToFloat(quantize(x), W_int8, x_scale [M, 1], W_scale [N]) + bias.

    Weights: symmetric int8, one scale per output channel. Activations: uint8, quantized at run time with one scale
    per row, so a row's result does not depend on the rows beside it, and the integer sums are exact.
    The zero point is 128, except after FastGelu, whose values lie above -0.17004: a zero point near the lower end
    spends nearly the whole range on positive values. A row is one block of a blocked QuantizeLinear, whose scales
    [M, 1] are then those of the product, too: every node costs a decode step a few microseconds.
    The bias is added separately, because a fused one would be multiplied by the row's scale.

    The scale of an all-zero row is 0. Whatever integers 0 / 0 becomes, the product is then multiplied by 0.
    """

    def __init__(self, gelu_zero_point: int = GELU_ZERO_POINT) -> None:
        super().__init__()
        self.gelu_zero_point = gelu_zero_point

    def rewrite(self, graph: ir.Graph) -> int:
        quantized: dict[str, tuple[ir.Value, ir.Value, ir.Value]] = {}
        linears = list(nodes(graph, "Gemm"))
        for linear in linears:
            x = linear.inputs[0]
            if name_of(x) not in quantized:
                quantized[name_of(x)] = self._quantize_rows(graph, linear, x)
            self._replace(graph, linear, quantized[name_of(x)])
        return len(linears)

    def _quantize_rows(
        self, graph: ir.Graph, before: ir.Node, x: ir.Value | None
    ) -> tuple[ir.Value, ir.Value, ir.Value]:
        """``x`` [M, K] as uint8 [M, K], its scales [M, 1] and its zero point []."""
        zero = self.gelu_zero_point if producer(x, "FastGelu") else MIDDLE
        scale = _row_scales(graph, before, x, zero)
        zero_points = _zero_points(graph, before, scale, zero)
        one_block = {"axis": 1, "block_size": weight_of(before.inputs[1]).dims[1]}
        rows = add_node(before, "QuantizeLinear", [x, scale, zero_points], one_block, name=f"{name_of(x)}/quantized")
        return rows, scale, _zero_point(graph, zero)

    def _replace(self, graph: ir.Graph, linear: ir.Node, x: tuple[ir.Value, ir.Value, ir.Value]) -> None:
        value = linear.inputs[1]
        weight, name = weight_of(value), name_of(value)
        bias = linear.inputs[2] if len(linear.inputs) > 2 else None
        scales = row_scales(weight)
        quantized = add_initializer(graph, names.quantized(name), quantized_columns(weight, scales))
        scale = add_initializer(graph, names.scale(name), scales)
        rows, row_scale, zero_point = x
        product = add_node(
            linear,
            "MatMulIntegerToFloat",
            [rows, quantized, row_scale, scale, zero_point],
            domain=CONTRIB,
            name=names.product(name),
        )
        if bias is not None:
            product = add_node(linear, "Add", [product, bias], name=f"{names.module_of(name)}/biased")
        replace_uses(linear.outputs[0], product)
        graph.remove(linear, safe=True)
        del graph.initializers[name]


def _row_scales(graph: ir.Graph, before: ir.Node, x: ir.Value | None, zero: int) -> ir.Value:
    """The scale of each row, [M, 1]: max |x| / 127 around the middle, else max x / (255 - zero), at least such that
    gelu_new's minimum is not clipped.
    """
    name, both_signs = name_of(x), zero == MIDDLE
    steps = INT8_MAX if both_signs else 255 - zero
    columns = axis(graph, 1)
    step = constant(graph, f"1/{steps}", np.array(1 / steps, np.float32))
    if both_signs:
        x = add_node(before, "Abs", [x], name=f"{name}/magnitude")
    largest = add_node(before, "ReduceMax", [x, columns], {"keepdims": 1}, name=f"{name}/largest")
    scale = add_node(before, "Mul", [largest, step], name=f"{name}/scale")
    if both_signs:
        return scale
    least = constant(graph, "least_gelu_scale", np.array(GELU_MINIMUM / zero, np.float32))
    return add_node(before, "Max", [scale, least], name=f"{name}/scale_of_gelu")


def _zero_points(graph: ir.Graph, linear: ir.Node, scales: ir.Value, zero: int) -> ir.Value:
    """``zero`` once per row, [M, 1]: one node for lm_head, which sees the last rows only, and one for all other layers.

    Their number follows from the graph's inputs, so that a layer of the model needs no value of another one.
    """
    rows = "last" if is_head(linear) else "all"
    name = f"zero_points_{zero}_{rows}"
    found = named_value(graph, name)
    if found is not None:
        return found
    tokens = named_value(graph, names.TOKENS_SHAPE) if rows == "all" else None
    if tokens is not None:
        count = add_node(linear, "ReduceProd", [tokens], name=f"{name}/count")
        shape = add_node(linear, "Concat", [count, axis(graph, 1)], {"axis": 0}, name=f"{name}/shape")
    else:
        shape = add_node(linear, "Shape", [scales], name=f"{name}/shape")
    return add_node(linear, "Expand", [_zero_point(graph, zero), shape], name=name)


def _zero_point(graph: ir.Graph, zero: int) -> ir.Value:
    """One zero point, uint8 []."""
    return constant(graph, f"zero_point_{zero}", np.array(zero, np.uint8))
