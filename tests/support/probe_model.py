"""Writes the models with which the runtime asks what onnxruntime and the processor do.

    python tests/support/probe_model.py

int8_product.onnx: one product as in decoder.onnx, of uint8 activations with zero point 128 and one scale per row, and
int8 weights.
split_past.onnx: attention of one head over the whole past.
local_window.onnx: attention of a local layer.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
from onnx import numpy_helper, parser

from neort.backend import attention
from neort.backend import int8_products as cpu

PRODUCT = """
<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
probe (uint8[rows, %d] activations, float[rows, 1] scale) => (float[rows, %d] product)
<float weight_scale = {1.0}, uint8 zero_point = {128}, int8 weight_zero_point = {0}>
{
    product = com.microsoft.MatMulIntegerToFloat(activations, weight, scale, weight_scale, zero_point,
                                                 weight_zero_point)
}
"""

ATTENTION = """
<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
probe (float[batch, sequence, packed] qkv, int32[batch] seqlens_k, int32 total_sequence_length,
       float[batch, heads, cache, head] past_key, float[batch, heads, cache, head] past_value)
    => (float[batch, sequence, hidden] attention,
        float[batch, heads, cache, head] present_key, float[batch, heads, cache, head] present_value)
{
    attention, present_key, present_value = com.microsoft.GroupQueryAttention
        <num_heads = %d, kv_num_heads = %d, scale = 1.0, do_rotary = 0, local_window_size = %d>
        (qkv, "", "", past_key, past_value, seqlens_k, total_sequence_length)
}
"""


def product() -> bytes:
    model = parser.parse_model(PRODUCT % (cpu.INNER, cpu.COLUMNS))
    model.graph.initializer.append(numpy_helper.from_array(cpu.weights(), "weight"))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def attend(heads: int, window: int) -> bytes:
    return bytes(parser.parse_model(ATTENTION % (heads, heads, window)).SerializeToString(deterministic=True))


PROBES: dict[Path, Callable[[], bytes]] = {
    cpu.PROBE: product,
    attention.SPLIT: lambda: attend(1, -1),
    attention.LOCAL: lambda: attend(attention.HEADS, attention.WINDOW),
}


if __name__ == "__main__":
    for file, build in PROBES.items():
        file.write_bytes(build())
