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

from ..harness.arguments import script_parser
from ..harness.results import write_results
from ..harness.timing import fastest

__all__ = ["Limits", "Machine"]

ARRAY_BYTES = 1 << 30
BLOCK, BLOCK_COLUMNS = 256, 1 << 17  # x INNER rows: 256 MiB, and a scale for each block
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
        self._readers = ((ARRAY_BYTES, reader(threads)), (block_bytes(), product(threads, "MatMulNBits")))
        self._int8, self._fp32 = product(threads, "MatMulInteger"), product(threads, "MatMul")

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
    return INNER * BLOCK_COLUMNS * (BLOCK + 4) // BLOCK


def product(threads: int, operator: str) -> Callable[[], object]:
    """A matrix product with constant weights in onnxruntime."""
    x, inputs, output, attributes = _operands(operator)
    names = [f"weight_{i}" for i in range(len(inputs))]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(operator, ["x", *names], ["y"], **attributes)],
        "product",
        [onnx.helper.make_tensor_value_info("x", onnx.helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)],
        [onnx.helper.make_tensor_value_info("y", output, None)],
        [onnx.numpy_helper.from_array(array, name) for array, name in zip(inputs, names, strict=True)],
    )
    opsets = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid("com.microsoft", 1)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})


def _operands(operator: str) -> tuple[NDArray[Any], list[NDArray[Any]], int, dict[str, Any]]:
    """The first operand, the constant ones, the type of the result, and the attributes."""
    random = np.random.default_rng(0)
    if operator == "MatMulInteger":
        x: NDArray[Any] = random.integers(0, 255, (ROWS, INNER), np.uint8)
        return x, [random.integers(-127, 127, (INNER, COLUMNS), np.int8)], onnx.TensorProto.INT32, {}
    if operator == "MatMul":
        x = random.standard_normal((ROWS, INNER)).astype(np.float32)
        weight = random.standard_normal((INNER, COLUMNS)).astype(np.float32)
        return x, [weight], onnx.TensorProto.FLOAT, {}
    blocks = random.integers(0, 255, (BLOCK_COLUMNS, INNER // BLOCK, BLOCK), np.uint8)
    scales = np.full(BLOCK_COLUMNS * INNER // BLOCK, 0.01, np.float32)
    attributes = {"N": BLOCK_COLUMNS, "K": INNER, "bits": 8, "block_size": BLOCK, "accuracy_level": 4}
    row = random.standard_normal((1, INNER)).astype(np.float32)
    return row, [blocks, scales], onnx.TensorProto.FLOAT, attributes | {"domain": "com.microsoft"}


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("--threads", type=int, default=available_cpus())
    write_results("roofline", {"limits": asdict(Machine(parser.parse_args().threads).limits())})


if __name__ == "__main__":
    main()
