"""What this machine can do at most: read bandwidth, and the rates of int8 and fp32 matrix products.

    python -m benchmarks.machine.roofline [--threads 2]

Writes results/roofline.json. Other benchmarks measure the limits in turns with what they compare with them, because a
shared machine's limits move.

Bandwidth: the faster of two readers, numpy's sum of an array of 1 GiB and onnxruntime's product of one row with 256 MiB
of 8-bit weights in blocks of 256, which no cache holds either. (On some machines numpy reads a third less.) Products:
onnxruntime's own operators, [512, 2048] x [2048, 8192], as a layer of the 1.3B shape has them in a prompt of 512
tokens; 2 operations per multiplication and addition.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from neort.backend import available_cpus
from neort.bundle import BLOCKS_OF_8_BITS

from ..harness.arguments import script_parser
from ..harness.results import write_results
from ..harness.timing import fastest
from .products import block_product, model_bytes, product

__all__ = ["Limits", "Machine"]

ARRAY_BYTES = 1 << 30
BLOCK_COLUMNS = 1 << 17  # x INNER rows: 256 MiB, and a scale for each block
ROWS, INNER, COLUMNS = 512, 2048, 8192
ROUNDS = 7


@dataclass(frozen=True)
class Limits:
    """Bytes per second, and operations per second."""

    threads: int
    read_bytes_per_second: float
    int8_operations_per_second: float
    fp32_operations_per_second: float


class Machine:
    """The machine's limits, measured again and again; what is read and multiplied is made once."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._readers = ((ARRAY_BYTES, reader(threads)), (block_bytes(), timed_product(threads, "MatMulNBits")))
        self._int8, self._fp32 = timed_product(threads, "MatMulInteger"), timed_product(threads, "MatMul")

    def limits(self, rounds: int = ROUNDS) -> Limits:
        """The best of a few rounds each."""
        operations = 2 * ROWS * INNER * COLUMNS
        return Limits(
            self.threads,
            max(size / fastest(read, rounds) for size, read in self._readers),
            operations / fastest(self._int8, rounds),
            operations / fastest(self._fp32, rounds),
        )


def reader(threads: int) -> Callable[[], object]:
    parts = np.array_split(np.ones(ARRAY_BYTES // 8, np.int64), threads)
    pool = ThreadPoolExecutor(threads)
    return lambda: list(pool.map(np.sum, parts))  # numpy sums without the interpreter's lock


def block_bytes() -> int:
    """Bytes that a product with MatMulNBits reads."""
    return BLOCKS_OF_8_BITS.matrix_bytes(BLOCK_COLUMNS, INNER)


def timed_product(threads: int, operator: str) -> Callable[[], object]:
    """A matrix product with constant weights in onnxruntime."""
    x, weights, output = _operands(operator)
    named = {f"weight_{i}": array for i, array in enumerate(weights)}
    inputs = ["x", *named]
    if operator == "MatMulNBits":
        form = BLOCKS_OF_8_BITS
        shape = {"inner": INNER, "columns": BLOCK_COLUMNS, "bits": form.bits, "block_size": form.size}
        node = block_product(inputs, "y", **shape)
    else:
        node = product(operator, inputs, "y")
    value = onnx.helper.make_tensor_value_info("x", onnx.helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    model = model_bytes([node], [value], output, named)
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})


def _operands(operator: str) -> tuple[NDArray[Any], list[NDArray[Any]], int]:
    """The first operand, the constant ones, and the type of the result."""
    random = np.random.default_rng(0)
    if operator == "MatMulInteger":
        x: NDArray[Any] = random.integers(0, 255, (ROWS, INNER), np.uint8)
        return x, [random.integers(-127, 127, (INNER, COLUMNS), np.int8)], onnx.TensorProto.INT32
    if operator == "MatMul":
        x = random.standard_normal((ROWS, INNER)).astype(np.float32)
        return x, [random.standard_normal((INNER, COLUMNS)).astype(np.float32)], onnx.TensorProto.FLOAT
    form = BLOCKS_OF_8_BITS
    count = form.block_count(INNER)
    blocks = random.integers(0, 255, (BLOCK_COLUMNS, count, form.packed_bytes(form.size)), np.uint8)
    row = random.standard_normal((1, INNER)).astype(np.float32)
    return row, [blocks, np.full(BLOCK_COLUMNS * count, 0.01, np.float32)], onnx.TensorProto.FLOAT


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("--threads", type=int, default=available_cpus())
    write_results("roofline", {"limits": asdict(Machine(parser.parse_args().threads).limits())})


if __name__ == "__main__":
    main()
