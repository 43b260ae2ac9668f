"""Writes the model with which the runtime asks whether int8 products saturate.

    python tests/runtime/probe_model.py

One product as in decoder.onnx: uint8 activations with zero point 128 and one scale per row, int8 weights.
"""

from __future__ import annotations

import onnx
from onnx import numpy_helper, parser

from neort import cpu

TEXT = """
<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
probe (uint8[rows, %d] activations, float[rows, 1] scale) => (float[rows, %d] product)
<float weight_scale = {1.0}, uint8 zero_point = {128}, int8 weight_zero_point = {0}>
{
    product = com.microsoft.MatMulIntegerToFloat(activations, weight, scale, weight_scale, zero_point,
                                                 weight_zero_point)
}
"""


def build() -> bytes:
    model = parser.parse_model(TEXT % (cpu.INNER, cpu.COLUMNS))
    model.graph.initializer.append(numpy_helper.from_array(cpu.weights(), "weight"))
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


if __name__ == "__main__":
    cpu.PROBE.write_bytes(build())
