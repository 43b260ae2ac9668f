"""What the processor makes of int8 products, found by asking for one.

Knows what to multiply and what the answer should be; knows nothing about onnxruntime, which its caller runs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..arrays import AnyArray, Floats

__all__ = ["PrecisionWarning", "Run", "int8_products_saturate"]

PROBE = Path(__file__).with_name("probes") / "int8_product.onnx"  # written by tests/support/probe_model.py
INNER = 64  # the probe's weights are int8 [INNER, COLUMNS]
COLUMNS = 16
ROW_COUNTS = (1, 8)  # a single row has kernels of its own

Run = Callable[[bytes, dict[str, AnyArray]], Floats]


class PrecisionWarning(UserWarning):
    """This processor computes int8 products wrongly, and nothing that neort can set changes it."""


def int8_products_saturate(run: Run) -> bool:
    """Whether uint8 x int8 products come out wrong, because pairs of them are summed in 16 bits.

    ``run`` runs an ONNX model on feeds and returns its output; here a product whose pairs need 17 bits. Processor flags
    would only predict the answer: onnxruntime picks its kernels by CPUID, by operating system and by what it was built
    with, while /proc/cpuinfo is that of the host under an emulator, is absent on Windows and macOS, and may be
    masked in a virtual machine. The product itself is right or wrong, and costs a millisecond.

    Where it cannot be computed, the answer is True: the exact kernel is slower, never wrong.
    """
    try:
        model = PROBE.read_bytes()
        return any(not np.array_equal(run(model, _feeds(rows)), expected_product(rows)) for rows in ROW_COUNTS)
    except Exception:  # onnxruntime's errors share no public base class
        return True


def weights() -> NDArray[np.int8]:
    """The probe's weights: the largest int8 in even columns, the smallest in odd ones."""
    row = np.where(np.arange(COLUMNS) % 2, -128, 127).astype(np.int8)
    return np.tile(row, (INNER, 1))


def expected_product(rows: int) -> Floats:
    """What the probe's product of the largest activations must be; exact in float32."""
    activations = np.full((rows, INNER), 255 - 128)
    product: Floats = (activations @ weights().astype(np.int64)).astype(np.float32)
    return product


def _feeds(rows: int) -> dict[str, AnyArray]:
    return {"activations": np.full((rows, INNER), 255, np.uint8), "scale": np.ones((rows, 1), np.float32)}
