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
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, ValueInfoProto, helper

from neort.backend import available_cpus, open_session, session_options
from neort.bundle import BLOCKS_OF_4_BITS, BLOCKS_OF_8_BITS, FORMATS, BlockFormat, RowFormat

from ..harness.arguments import script_parser
from ..harness.results import write_results
from ..harness.timing import seconds
from ..machine.products import block_product, model_bytes, product

INNER, COLUMNS, WEIGHTS = 2048, 8192, 12
SIZES_8, SIZES_4 = (64, 128, 256), (32, 64, 128, 256)  # the formats' own lengths of blocks among others
MATRICES: tuple[RowFormat | BlockFormat, ...] = (
    FORMATS["int8"].linears,
    *(replace(BLOCKS_OF_8_BITS, size=size) for size in SIZES_8),
    *(replace(BLOCKS_OF_4_BITS, size=size) for size in SIZES_4),
)
TIMED, COMPARED, MOST = (1, 2, 8, 256), range(1, 17), 64

Floats = NDArray[np.float32]
Array = NDArray[Any]


def main() -> None:
    args = parse_args()
    products = [Products(form, args.threads) for form in MATRICES]
    for i in range(args.rounds + 1):
        for rows in TIMED:
            for each in products:
                each.time(rows, warm=i == 0)
    facts = {"threads": args.threads, "inner": INNER, "columns": COLUMNS}
    write_results("block_sizes", {**facts, "formats": [each.summary() for each in products]})


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("--threads", type=int, default=available_cpus())
    parser.add_argument("--rounds", type=int, default=9)
    return parser.parse_args()


class Products:
    """A graph of products of one input with several weights, as a layer of neort has them."""

    def __init__(self, form: RowFormat | BlockFormat, threads: int) -> None:
        random = np.random.default_rng(0)
        self.form = form
        self.in_blocks = isinstance(form, BlockFormat)  # then the product quantizes its input itself
        weights = [_arrays(random, form) for _ in range(WEIGHTS)]
        self.weight_bytes = sum(array.nbytes for array in weights[0])
        self.session = open_session(_model(form, weights), session_options(threads, b""))
        self.x = np.random.default_rng(1).standard_normal((max(*TIMED, MOST), INNER)).astype(np.float32)
        self.times: dict[int, list[float]] = {rows: [] for rows in TIMED}

    def run(self, x: Floats) -> Floats:
        """The first product of x [rows, INNER]: float32 [rows, COLUMNS]."""
        feeds: dict[str, Array] = {"x": x}
        if not self.in_blocks:
            scale = np.abs(x).max(axis=1, keepdims=True) / np.float32(127)
            feeds = {"x": (np.rint(x / scale) + 128).astype(np.uint8), "scale": scale}
        result: Floats = self.session.run(None, feeds)[0]
        return result

    def time(self, rows: int, *, warm: bool) -> None:
        """Note the seconds of one product: all of them, over their number."""
        x = self.x[:rows]
        taken = seconds(lambda: self.run(x)) / WEIGHTS
        if not warm:
            self.times[rows].append(taken)

    def difference(self, odd: int) -> float:
        """Of results among an even or odd number of rows from those among MOST."""
        whole = self.run(self.x[:MOST])
        counts = (n for n in COMPARED if n % 2 == odd)
        return max(float(np.abs(self.run(self.x[:n]) - whole[:n]).max()) for n in counts)

    def summary(self) -> dict[str, Any]:
        """The format's row in the results."""
        facts = self.form.facts()
        return {
            "bits": facts["bits"],
            "block_size": facts["block_size"],
            "weight_bytes": self.weight_bytes,
            "microseconds": {rows: round(1e6 * statistics.median(times), 1) for rows, times in self.times.items()},
            "row_difference": {"even": self.difference(0), "odd": self.difference(1)},
        }


def _arrays(random: np.random.Generator, form: RowFormat | BlockFormat) -> list[Array]:
    """A weight and its scales; levels, scales and, of asymmetric blocks, zero points."""
    if isinstance(form, RowFormat):
        return [random.integers(-127, 127, (INNER, COLUMNS), np.int8), np.full(COLUMNS, 0.01, np.float32)]
    count = form.block_count(INNER)
    levels = random.integers(0, 255, (COLUMNS, count, form.packed_bytes(form.size)), np.uint8)
    scales = np.full((COLUMNS, count), 0.01, np.float32)
    zeros = np.full((COLUMNS, form.packed_bytes(count)), 0x88, np.uint8)
    return [levels, scales, zeros] if form.asymmetric else [levels, scales]


def _model(form: RowFormat | BlockFormat, weights: list[list[Array]]) -> bytes:
    named: dict[str, Array] = {}
    nodes: list[NodeProto] = []
    for i, arrays in enumerate(weights):
        names = [f"{part}_{i}" for part in range(len(arrays))]
        named |= zip(names, arrays, strict=True)
        if isinstance(form, BlockFormat):
            shape = {"inner": INNER, "columns": COLUMNS, "bits": form.bits, "block_size": form.size}
            nodes.append(block_product(["x", *names], f"y_{i}", **shape))
        else:
            nodes.append(product("MatMulIntegerToFloat", ["x", names[0], "scale", names[1], "zero_point"], f"y_{i}"))
    if isinstance(form, RowFormat):
        named["zero_point"] = np.array(128, np.uint8)
    return model_bytes(nodes, _inputs(form), TensorProto.FLOAT, named)


def _inputs(form: RowFormat | BlockFormat) -> list[ValueInfoProto]:
    if isinstance(form, BlockFormat):
        return [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", INNER])]
    return [
        helper.make_tensor_value_info("x", TensorProto.UINT8, ["rows", INNER]),
        helper.make_tensor_value_info("scale", TensorProto.FLOAT, ["rows", 1]),
    ]


if __name__ == "__main__":
    main()
