"""How each system keeps a model; what neort's formats take per weight stands in `neort.bundle`."""

from __future__ import annotations

from neort.bundle import FORMATS, Quantization

from ..harness.work import Numbers

__all__ = ["NUMBERS"]


def of_format(name: Quantization) -> Numbers:
    """How neort keeps a model in a format, with a float32 cache."""
    linears, head = (form.facts()["bytes_per_weight"] for form in (FORMATS[name].linears, FORMATS[name].head))
    return Numbers(linears, head, 4, "int8" if FORMATS[name].quantized else "fp32")


INT8 = Numbers(1, 1, 4, "int8")  # a scale for each row or each tensor counts as nothing
Q8_0, Q4_0 = 34 / 32, 18 / 32  # blocks of 32 with a scale in float16

NUMBERS = {
    "neort int8": of_format("int8"),
    "neort int8, packed weights": of_format("int8"),
    "neort int8-block": of_format("int8-block"),
    "neort int4": of_format("int4"),
    "transformers fp32": Numbers(4, 4, 4, "fp32"),
    "transformers bf16": Numbers(2, 2, 2, "bf16"),
    "torch dynamic int8": INT8,
    "optimum int8": INT8,
    "optimum int8, bare onnxruntime": INT8,
    "OpenVINO int8": INT8,
    "OpenVINO int4": Numbers(Q4_0, 1, 4, "int8"),
    "llama.cpp Q8_0": Numbers(Q8_0, Q8_0, 2, "int8", windowed=False),
    "llama.cpp Q4_0": Numbers(Q4_0, Q8_0, 2, "int8", windowed=False),
    "CTranslate2 int8": Numbers(1, 1, 4, "int8", windowed=False),
    "onnxruntime-genai int8, neort's bundle": of_format("int8"),
}
