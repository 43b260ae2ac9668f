"""gelu_new, which arrives as eight elementwise nodes, becomes one, and takes the bias before it."""

from __future__ import annotations

import math

import onnx_ir as ir
from onnxscript.rewriter import pattern

from ..rewrite import CONTRIB, Rewrite, nodes, producer

__all__ = ["FuseGelu", "FuseGeluBias"]


def _gelu_new(op: pattern.OpsetPatternBuilder, x: pattern.ValuePattern) -> pattern.ValuePattern:
    inner = op.Add(x, op.Mul(op.Pow(x, 3.0), 0.044715))
    return op.Mul(op.Mul(x, 0.5), op.Add(op.Tanh(op.Mul(inner, math.sqrt(2 / math.pi))), 1.0))


def _fast_gelu(op: pattern.RewriterContext, x: ir.Value) -> ir.Value:
    result: ir.Value = op.FastGelu(x, _domain=CONTRIB)
    return result


class FuseGelu(Rewrite):
    """0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) -> FastGelu(x).

    Hendrycks and Gimpel, Gaussian Error Linear Units (arXiv 1606.08415). A checkpoint with another activation
    function keeps the operators that torch traced.
    """

    at_least = 0

    def rewrite(self, graph: ir.Graph) -> int:
        rule = pattern.RewriteRule(_gelu_new, _fast_gelu, name="fuse_gelu")
        model = ir.Model(graph, ir_version=10)
        return int(pattern.RewriteRuleSet([rule], commute=True).apply_to_model(model))


class FuseGeluBias(Rewrite):
    """FastGelu(Add(x, bias)) -> FastGelu(x, bias): one pass over the values less, and the same bits.

    Layers of the format int8 add their bias separately; in the others it is part of the product.
    """

    at_least = 0

    def rewrite(self, graph: ir.Graph) -> int:
        count = 0
        for gelu in nodes(graph, "FastGelu"):
            add = producer(gelu.inputs[0], "Add")
            if add is None or add.inputs[1] is None or not add.inputs[1].is_initializer():
                continue
            x, bias = add.inputs
            gelu.resize_inputs(2)
            gelu.replace_input_with(0, x)
            gelu.replace_input_with(1, bias)
            count += 1
        return count
