"""Keys and values are kept in int8."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ...quantization.tensors import INT8_MAX
from .. import names
from ..rewrite import Rewrite, add_initializer, name_of, nodes

__all__ = ["CACHE_MARGIN", "QuantizeCache"]

CACHE_MARGIN = 1.5  # of a channel's range, over the largest value that calibration saw
LEAST_SCALE = 1e-8  # of a channel that was always zero
SCALES = 12, 14  # GroupQueryAttention's inputs k_scale and v_scale


class QuantizeCache(Rewrite):
    """GroupQueryAttention(..., past float32) -> GroupQueryAttention(..., past int8, key scales, value scales).

    Symmetric, one constant scale for each channel of each head. The operator quantizes new keys and values as it stores
    them, and reads none of them in any other form, so a position's keys and values are the same for every later token.
    """

    def __init__(self, largest: Mapping[str, NDArray[np.float32]]) -> None:
        """``largest`` is the largest absolute value of each channel, [H, D], by cache name: "0.key", "0.value" ..."""
        super().__init__()
        self.largest = largest

    def rewrite(self, graph: ir.Graph) -> int:
        attentions = list(nodes(graph, "GroupQueryAttention"))
        for attention in attentions:
            attention.resize_inputs(SCALES[1])
            for index, past in zip(range(*SCALES), attention.inputs[3:5], strict=True):
                part = names.part_of(name_of(past))
                scales = np.maximum(self.largest[part] * np.float32(CACHE_MARGIN / INT8_MAX), np.float32(LEAST_SCALE))
                scale = add_initializer(graph, names.scale(part), scales[None, :, None].astype(np.float32))
                attention.replace_input_with(index, scale)
            for kind in ("k", "v"):
                attention.attributes.add(ir.AttrString(f"{kind}_quant_type", "PER_CHANNEL"))
            attention.attributes.add(ir.AttrInt64("kv_cache_bit_width", 8))
            for value in (*attention.inputs[3:5], *attention.outputs[1:3]):
                if value is not None:
                    value.type = ir.TensorType(ir.DataType.INT8)
        return len(attentions)
