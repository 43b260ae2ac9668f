"""What this machine can do at most, measured in seconds: read memory, and multiply in int8 and fp32."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..arrays import AnyArray
from ..backend import open_session, plain_options
from ..bundle import BLOCKS_OF_8_BITS
from .onnx_bytes import product_model

__all__ = ["Limits", "measured_limits"]

ARRAY_BYTES = 256 << 20  # beyond what caches hold, as are
BLOCK_COLUMNS, BLOCK_ROWS = 1 << 16, 2048  # weights of 128 MiB
ROWS, INNER, COLUMNS = 256, 1024, 4096
ROUNDS = 5


@dataclass(frozen=True)
class Limits:
    """The best of a few rounds: bytes, and operations, per second; an addition counts as one, a product too."""

    read_bytes_per_second: float
    int8_operations_per_second: float
    fp32_operations_per_second: float


def measured_limits(threads: int, *, unsigned: bool = False, tell: Callable[[str], None] = lambda _: None) -> Limits:
    """Measure with so many threads; ``tell`` is told what is being measured.

    ``unsigned``: int8 products of uint8 weights, as neort has them where those of int8 weights come out wrong.

    Takes about three seconds and half a gigabyte of memory. Raises OSError or onnxruntime's errors where there is none.
    """
    tell("memory bandwidth")
    bandwidth = max(ARRAY_BYTES / _fastest(_reader(threads)), _block_bytes() / _fastest(_blocks(threads)))
    operations = 2 * ROWS * INNER * COLUMNS
    tell("int8 products")
    int8 = operations / _fastest(_int8_product(threads, unsigned))
    tell("fp32 products")
    return Limits(bandwidth, int8, operations / _fastest(_fp32_product(threads)))


def _fastest(run: Callable[[], object]) -> float:
    """Seconds of the fastest round, the first one not counted."""
    run()
    return min(_seconds(run) for _ in range(ROUNDS))


def _seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def _reader(threads: int) -> Callable[[], object]:
    from concurrent.futures import ThreadPoolExecutor  # slow to import, and every command imports this module

    parts = np.array_split(np.ones(ARRAY_BYTES // 8, np.int64), threads)

    def read() -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(np.sum, parts))  # numpy sums without the interpreter's lock

    return read


def _int8_product(threads: int, unsigned: bool) -> Callable[[], object]:
    random = np.random.default_rng(0)
    x = random.integers(0, 255, (ROWS, INNER), np.uint8)
    weights = {"w": random.integers(0, 127, (INNER, COLUMNS), np.uint8 if unsigned else np.int8)}
    return _timed(product_model("MatMulInteger", x, weights, "int32"), x, threads)


def _fp32_product(threads: int) -> Callable[[], object]:
    random = np.random.default_rng(0)
    x = random.random((ROWS, INNER), np.float32)
    return _timed(product_model("MatMul", x, {"w": random.random((INNER, COLUMNS), np.float32)}, "float32"), x, threads)


def _blocks(threads: int) -> Callable[[], object]:
    """One row with weights in blocks of 8 bits, as a decode step reads them."""
    form = BLOCKS_OF_8_BITS
    count = form.block_count(BLOCK_ROWS)
    x = np.ones((1, BLOCK_ROWS), np.float32)
    blocks = np.ones((BLOCK_COLUMNS, count, form.size), np.uint8)
    weights: dict[str, AnyArray] = {"w": blocks, "scales": np.full(BLOCK_COLUMNS * count, 0.01, np.float32)}
    facts = {"K": BLOCK_ROWS, "N": BLOCK_COLUMNS, "bits": form.bits, "block_size": form.size, "accuracy_level": 4}
    return _timed(product_model("MatMulNBits", x, weights, "float32", **facts), x, threads)


def _block_bytes() -> int:
    return BLOCKS_OF_8_BITS.matrix_bytes(BLOCK_COLUMNS, BLOCK_ROWS)


def _timed(model: bytes, x: AnyArray, threads: int) -> Callable[[], object]:
    session = open_session(model, plain_options(threads))
    return lambda: session.run(None, {"x": x})
