"""The systems that are compared: which module runs each, in which environment, from which files.

Knows nothing about the systems themselves, and imports nothing beyond Python's own library.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["COMPARED", "OURS", "REFERENCE", "SYSTEMS", "System", "in_order"]


@dataclass(frozen=True)
class System:
    """How a system is set up."""

    module: str  # in adapters/: prepare() and load()
    environment: str  # requirements/NAME.txt; "" is the Python that runs the benchmark
    prepared: str  # folder of its converted weights; systems may share one
    compared_with: tuple[str, ...] = ()  # the neort formats of its kind


EIGHT, FOUR = ("neort int8", "neort int8-block"), ("neort int4",)

OURS = {
    "neort int8": System("ours", "", "neort-int8"),
    "neort int8, packed weights": System("ours", "", "neort-int8", EIGHT[:1]),
    "neort int8-block": System("ours", "", "neort-int8-block"),
    "neort int4": System("ours", "", "neort-int4"),
}
PEERS = {
    "transformers fp32": System("torch_based", "torch", "transformers", EIGHT),
    "transformers bf16": System("torch_based", "torch", "transformers", EIGHT),
    "torch dynamic int8": System("torch_based", "torch", "transformers", EIGHT),
    "optimum int8": System("optimum_based", "optimum", "optimum-int8", EIGHT),
    "optimum int8, bare onnxruntime": System("optimum_based", "optimum", "optimum-int8", EIGHT),
    "OpenVINO int8": System("openvino_based", "openvino", "openvino-int8", EIGHT),
    "OpenVINO int4": System("openvino_based", "openvino", "openvino-int4", FOUR),
    "llama.cpp Q8_0": System("llama_cpp_based", "llama_cpp", "llama.cpp-q8_0", EIGHT),
    "llama.cpp Q4_0": System("llama_cpp_based", "llama_cpp", "llama.cpp-q4_0", FOUR),
    "CTranslate2 int8": System("ctranslate2_based", "ctranslate2", "ctranslate2-int8", EIGHT),
    "onnxruntime-genai int8, neort's bundle": System("genai_based", "genai", "neort-int8", EIGHT),
}
SYSTEMS = OURS | PEERS
COMPARED = {name: system for name, system in SYSTEMS.items() if system.compared_with}
REFERENCE = "transformers fp32"  # whose greedy tokens the others' are compared with


def in_order(rows: dict[str, Any]) -> dict[str, Any]:
    """Rows by system, in the order above."""
    return {name: rows[name] for name in SYSTEMS if name in rows}
