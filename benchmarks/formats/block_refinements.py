"""What does each refinement of int8-block and int4 buy? An ablation on a checkpoint and on its twin with outliers.

    python -m benchmarks.formats.block_refinements CHECKPOINT TEXT [--tokens 51200]

Writes results/block_refinements.json: mean KL(torch || graph), p99 and perplexity ratio for each combination, those
with the refinements that were tried and dropped (`search`) among them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from neort.bundle import BLOCKS_OF_4_BITS, BLOCKS_OF_8_BITS
from neort_export.graph.passes import FoldOutliers, QuantizeBlocks, QuantizeEmbedding, QuantizeLinears
from neort_export.quantization.blockwise import BlockFormat
from neort_export.quantization.moments import Moments
from neort_export.reference import calibrate

from ..harness.results import write_results
from ..harness.texts import parse_text_args
from .ablation import Ablation, Passes, Rows, on_twins
from .search import Searched

SYMMETRIC_4 = replace(BLOCKS_OF_4_BITS, asymmetric=False)
ASYMMETRIC_8 = replace(BLOCKS_OF_8_BITS, asymmetric=True)


class Throughout(BlockFormat):
    """Blocks that are as long where they do not cut the columns evenly; the last one is padded.

    For a checkpoint that is narrower than the format's blocks, this shows what they cost one that is not.
    """

    def fitting(self, columns: int) -> BlockFormat:
        return self


def ablate(ablation: Ablation) -> Rows:
    """Every variant's distance from torch."""
    rows = {}
    for name, passes in variants().items():
        with tempfile.TemporaryDirectory(dir=ablation.folder.parent) as scratch:
            moments = Moments(Path(scratch) / "moments", 1024 if "1024" in name else 256)
            ranges, _ = calibrate(ablation.reference, ablation.calibration, moments)
            fold: Passes = [FoldOutliers(ranges, moments)] if "folded" in name else []
            rows[name] = ablation.measure(name, [*fold, *passes(moments), QuantizeEmbedding()])
    return rows


def variants() -> dict[str, Callable[[Moments], Passes]]:
    """Passes by the variant's name, which says whether outliers are folded before them."""
    int4, int8 = BLOCKS_OF_4_BITS, BLOCKS_OF_8_BITS
    long4, long8 = (Throughout(**asdict(form)) for form in (int4, int8))
    short4, short8 = replace(int4, size=32), replace(int8, size=64)
    return {
        "8 bit": lambda _: [QuantizeBlocks(int8, int8)],
        "8 bit, folded (int8-block)": lambda _: [QuantizeBlocks(int8, int8)],
        "8 bit, folded, blocks of 64": lambda _: [QuantizeBlocks(short8, short8)],
        "8 bit, folded, blocks of 256 throughout": lambda _: [QuantizeBlocks(long8, long8)],
        "8 bit, folded, zero points": lambda _: [QuantizeBlocks(ASYMMETRIC_8, ASYMMETRIC_8)],
        "8 bit, folded, GPTQ": lambda moments: [QuantizeBlocks(int8, int8, moments)],
        "4 bit": lambda _: [QuantizeBlocks(SYMMETRIC_4, int8)],
        "4 bit, zero points": lambda _: [QuantizeBlocks(int4, int8)],
        "4 bit, zero points, folded": lambda _: [QuantizeBlocks(int4, int8)],
        "4 bit, zero points, folded, search by square error": lambda _: [Searched()],
        "4 bit, zero points, folded, search by error to the 0.7": lambda _: [Searched(power=0.7)],
        "4 bit, zero points, folded, search by weighted square error": lambda moments: [Searched(moments)],
        "4 bit, zero points, GPTQ": lambda moments: [QuantizeBlocks(int4, int8, moments)],
        "4 bit, folded, GPTQ": lambda moments: [QuantizeBlocks(SYMMETRIC_4, int8, moments)],
        "4 bit, zero points, folded, GPTQ (int4)": lambda moments: [QuantizeBlocks(int4, int8, moments)],
        "4 bit, zero points, folded, GPTQ, blocks of 32": lambda moments: [QuantizeBlocks(short4, int8, moments)],
        "4 bit, zero points, folded, GPTQ, blocks of 128 throughout": lambda moments: [
            QuantizeBlocks(long4, long8, moments)
        ],
        "4 bit, zero points, folded, GPTQ in chunks of 1024": lambda moments: [QuantizeBlocks(int4, int8, moments)],
        "4 bit, zero points, folded, GPTQ, head in the format int8": lambda moments: [
            QuantizeBlocks(int4, None, moments),
            QuantizeLinears(),
        ],
    }


def main() -> None:
    write_results("block_refinements", on_twins(parse_text_args(__doc__, 51_200), ablate))


if __name__ == "__main__":
    main()
