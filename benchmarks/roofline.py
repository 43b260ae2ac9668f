"""What this machine can do at most: read bandwidth, and the rates of int8 and fp32 matrix products.

    python benchmarks/roofline.py [--threads 2]

Writes results/roofline.json. Other benchmarks call `measure` in the same run as what they compare with it, because a
shared machine's limits move.

Bandwidth: every thread sums its own part of an array of 1 GiB, which no cache holds. Products: onnxruntime's own
operators, [512, 2048] x [2048, 8192], as a layer of the 1.3B shape has them in a prompt of 512 tokens; 2 operations per
multiplication and addition.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from common import write_results
from neort.threads import available_cpus

__all__ = ["Limits", "measure"]

ARRAY_BYTES = 1 << 30
ROWS, INNER, COLUMNS = 512, 2048, 8192
ROUNDS = 7


@dataclass(frozen=True)
class Limits:
    """Bytes per second, and operations per second."""

    threads: int
    read_bytes_per_second: float
    int8_operations_per_second: float
    fp32_operations_per_second: float


def measure(threads: int) -> Limits:
    """The machine's limits with so many threads: the best of a few rounds each."""
    operations = 2 * ROWS * INNER * COLUMNS
    return Limits(
        threads,
        ARRAY_BYTES / fastest(reader(threads)),
        operations / fastest(product(threads, "MatMulInteger")),
        operations / fastest(product(threads, "MatMul")),
    )


def fastest(run: Callable[[], object]) -> float:
    """Seconds of the fastest round, the first one not counted."""
    run()
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times)


def reader(threads: int) -> Callable[[], object]:
    parts = np.array_split(np.ones(ARRAY_BYTES // 8, np.int64), threads)
    pool = ThreadPoolExecutor(threads)
    return lambda: list(pool.map(np.sum, parts))  # numpy sums without the interpreter's lock


def product(threads: int, operator: str) -> Callable[[], object]:
    """A matrix product with constant weights in onnxruntime."""
    random = np.random.default_rng(0)
    if operator == "MatMulInteger":
        x: NDArray[Any] = random.integers(0, 255, (ROWS, INNER), np.uint8)
        weight: NDArray[Any] = random.integers(-127, 127, (INNER, COLUMNS), np.int8)
        types = onnx.TensorProto.UINT8, onnx.TensorProto.INT32
    else:
        x, weight = (random.standard_normal(s).astype(np.float32) for s in ((ROWS, INNER), (INNER, COLUMNS)))
        types = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(operator, ["x", "weight"], ["y"])],
        "product",
        [onnx.helper.make_tensor_value_info("x", types[0], x.shape)],
        [onnx.helper.make_tensor_value_info("y", types[1], [ROWS, COLUMNS])],
        [onnx.numpy_helper.from_array(weight, "weight")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=available_cpus())
    write_results("roofline", {"limits": asdict(measure(parser.parse_args().threads))})
