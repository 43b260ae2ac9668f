"""The systems that are compared: which module runs each, in which environment, from which files.

Knows nothing about the systems themselves, and imports nothing beyond Python's own library.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["COMPARED", "OURS", "REFERENCE", "SYSTEMS", "Numbers", "System", "in_order"]


@dataclass(frozen=True)
class Numbers:
    """How a system keeps a model: bytes of one number, the scales of its block included."""

    linear_bytes: float  # a weight of the blocks' linear layers
    head_bytes: float  # a weight of lm_head
    cache_bytes: float  # a key or a value
    products: str  # what it multiplies, hence which limit of `roofline.Limits` holds: "int8", "fp32", "bf16"
    windowed: bool = True  # local layers see only a window; GPT-2's layout has none


@dataclass(frozen=True)
class System:
    """How a system is set up."""

    module: str  # in this folder: prepare() and load()
    environment: str  # requirements/NAME.txt; "" is the Python that runs the benchmark
    prepared: str  # folder of its converted weights; systems may share one
    numbers: Numbers
    compared_with: tuple[str, ...] = ()  # the neort formats of its kind


INT8 = Numbers(1, 1, 4, "int8")  # a scale for each row or each tensor counts as nothing
Q8_0, Q4_0 = 34 / 32, 18 / 32  # blocks of 32 with a scale in float16
BLOCKS_OF_8, BLOCKS_OF_4 = 260 / 256, 68.5 / 128  # with a scale in float32; of 4 bits with a zero point of 4 bits, too
EIGHT, FOUR = ("neort int8", "neort int8-block"), ("neort int4",)

OURS = {
    "neort int8": System("ours", "", "neort-int8", INT8),
    "neort int8, packed weights": System("ours", "", "neort-int8", INT8, EIGHT[:1]),
    "neort int8-block": System("ours", "", "neort-int8-block", Numbers(BLOCKS_OF_8, BLOCKS_OF_8, 4, "int8")),
    "neort int4": System("ours", "", "neort-int4", Numbers(BLOCKS_OF_4, BLOCKS_OF_8, 4, "int8")),
}
PEERS = {
    "transformers fp32": System("torch_based", "torch", "transformers", Numbers(4, 4, 4, "fp32"), EIGHT),
    "transformers bf16": System("torch_based", "torch", "transformers", Numbers(2, 2, 2, "bf16"), EIGHT),
    "torch dynamic int8": System("torch_based", "torch", "transformers", INT8, EIGHT),
    "optimum int8": System("optimum_based", "optimum", "optimum-int8", INT8, EIGHT),
    "optimum int8, bare onnxruntime": System("optimum_based", "optimum", "optimum-int8", INT8, EIGHT),
    "OpenVINO int8": System("openvino_based", "openvino", "openvino-int8", INT8, EIGHT),
    "OpenVINO int4": System("openvino_based", "openvino", "openvino-int4", Numbers(Q4_0, 1, 4, "int8"), FOUR),
    "llama.cpp Q8_0": System(
        "llama_cpp_based", "llama_cpp", "llama.cpp-q8_0", Numbers(Q8_0, Q8_0, 2, "int8", False), EIGHT
    ),
    "llama.cpp Q4_0": System(
        "llama_cpp_based", "llama_cpp", "llama.cpp-q4_0", Numbers(Q4_0, Q8_0, 2, "int8", False), FOUR
    ),
    "CTranslate2 int8": System(
        "ctranslate2_based", "ctranslate2", "ctranslate2-int8", Numbers(1, 1, 4, "int8", False), EIGHT
    ),
    "onnxruntime-genai int8, neort's bundle": System("genai_based", "genai", "neort-int8", INT8, EIGHT),
}
SYSTEMS = OURS | PEERS
COMPARED = {name: system for name, system in SYSTEMS.items() if system.compared_with}
REFERENCE = "transformers fp32"  # whose greedy tokens the others' are compared with


def in_order(rows: dict[str, Any]) -> dict[str, Any]:
    """Rows by system, in the order above."""
    return {name: rows[name] for name in SYSTEMS if name in rows}
