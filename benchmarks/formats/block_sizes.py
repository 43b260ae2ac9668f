"""What does the length of MatMulNBits' blocks cost, and what does it do to a row's bits?

    python -m benchmarks.formats.block_sizes [--threads 2] [--rounds 9]

Products of [rows, 2048] with a dozen weights of 8192 output channels, more than any cache holds, in turns: weights of 8
and 4 bits in blocks of every length, and int8 with a scale per channel (MatMulIntegerToFloat). For each number of rows:
microseconds per product; and how far, at most, a row's result is from the one that it has among 64 rows.

Writes results/block_sizes.json.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from neort.backend import available_cpus, open_session, session_options

from ..harness.arguments import script_parser
from ..harness.results import write_results
from ..harness.timing import seconds

INNER, COLUMNS, WEIGHTS = 2048, 8192, 12
FORMATS = ((8, None), (8, 64), (8, 128), (8, 256), (4, 32), (4, 64), (4, 128), (4, 256))  # bits, length of blocks
TIMED, COMPARED, MOST = (1, 2, 8, 256), range(1, 17), 64

Floats = NDArray[np.float32]
Key = tuple[int, int | None]  # bits, length of blocks


def main() -> None:
    args = parse_args()
    products = {key: Products(*key, args.threads) for key in FORMATS}
    times = time_in_turns(products, args.rounds)
    rows = [
        {
            "bits": key[0],
            "block_size": key[1],
            "weight_bytes": each.weight_bytes,
            "microseconds": {n: round(1e6 * statistics.median(times[key, n]), 1) for n in TIMED},
            "row_difference": {"even": each.difference(0), "odd": each.difference(1)},
        }
        for key, each in products.items()
    ]
    write_results("block_sizes", {"threads": args.threads, "inner": INNER, "columns": COLUMNS, "formats": rows})


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("--threads", type=int, default=available_cpus())
    parser.add_argument("--rounds", type=int, default=9)
    return parser.parse_args()


def time_in_turns(products: dict[Key, Products], rounds: int) -> dict[tuple[Key, int], list[float]]:
    """Seconds of one product by format and number of rows; the first round warms up and does not count."""
    times: dict[tuple[Key, int], list[float]] = {}
    for i in range(rounds + 1):
        for rows in TIMED:
            for key, each in products.items():
                measured = each.seconds(rows)
                if i:
                    times.setdefault((key, rows), []).append(measured)
    return times


class Products:
    """A graph of products of one input with several weights, as a layer of neort has them."""

    def __init__(self, bits: int, block_size: int | None, threads: int) -> None:
        random = np.random.default_rng(0)
        weights = [_in_blocks(random, bits, block_size) if block_size else _by_channel(random) for _ in range(WEIGHTS)]
        self.quantizes = block_size is not None  # its input, by itself
        self.weight_bytes = sum(array.nbytes for array in weights[0])
        self.session = _session(weights, bits, block_size, threads)
        self.x = np.random.default_rng(1).standard_normal((max(*TIMED, MOST), INNER)).astype(np.float32)

    def run(self, x: Floats) -> Floats:
        feeds: dict[str, NDArray[Any]] = {"x": x}
        if not self.quantizes:
            scale = np.abs(x).max(axis=1, keepdims=True) / np.float32(127)
            feeds = {"x": (np.rint(x / scale) + 128).astype(np.uint8), "scale": scale}
        result: Floats = self.session.run(None, feeds)[0]
        return result

    def seconds(self, rows: int) -> float:
        """Of one product: all of them, over their number."""
        x = self.x[:rows]
        return seconds(lambda: self.run(x)) / WEIGHTS

    def difference(self, odd: int) -> float:
        """Of results among an even or odd number of rows from those among MOST."""
        whole = self.run(self.x[:MOST])
        counts = (n for n in COMPARED if n % 2 == odd)
        return max(float(np.abs(self.run(self.x[:n]) - whole[:n]).max()) for n in counts)


def _by_channel(random: np.random.Generator) -> list[NDArray[Any]]:
    weight = random.integers(-127, 127, (INNER, COLUMNS), np.int8)
    return [weight, np.full(COLUMNS, 0.01, np.float32)]


def _in_blocks(random: np.random.Generator, bits: int, size: int) -> list[NDArray[Any]]:
    """Levels, scales and, for 4 bits, zero points, as in neort's formats."""
    count = INNER // size
    levels = random.integers(0, 255, (COLUMNS, count, size * bits // 8), np.uint8)
    scales = np.full((COLUMNS, count), 0.01, np.float32)
    zeros = np.full((COLUMNS, -(-count // 2)), 0x88, np.uint8)
    return [levels, scales] if bits == 8 else [levels, scales, zeros]


def _session(
    weights: list[list[NDArray[Any]]], bits: int, block_size: int | None, threads: int
) -> ort.InferenceSession:
    initializers, nodes = [], []
    for i, arrays in enumerate(weights):
        names = [f"{part}_{i}" for part in range(len(arrays))]
        initializers += [numpy_helper.from_array(array, name) for array, name in zip(arrays, names, strict=True)]
        if block_size:
            facts = {"K": INNER, "N": COLUMNS, "bits": bits, "block_size": block_size, "accuracy_level": 4}
            nodes.append(helper.make_node("MatMulNBits", ["x", *names], [f"y_{i}"], domain="com.microsoft", **facts))
        else:
            inputs = ["x", names[0], "scale", names[1], "zero_point"]
            nodes.append(helper.make_node("MatMulIntegerToFloat", inputs, [f"y_{i}"], domain="com.microsoft"))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", INNER])]
    if not block_size:
        initializers.append(numpy_helper.from_array(np.array(128, np.uint8), "zero_point"))
        inputs = [
            helper.make_tensor_value_info("x", TensorProto.UINT8, ["rows", INNER]),
            helper.make_tensor_value_info("scale", TensorProto.FLOAT, ["rows", 1]),
        ]
    outputs = [helper.make_tensor_value_info(f"y_{i}", TensorProto.FLOAT, None) for i in range(WEIGHTS)]
    graph = helper.make_graph(nodes, "products", inputs, outputs, initializers)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    return open_session(model, session_options(threads, b""))


if __name__ == "__main__":
    main()
