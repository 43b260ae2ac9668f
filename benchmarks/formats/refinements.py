"""What does each refinement of int8 buy? An ablation on a checkpoint and on its twin with outlier channels.

    python -m benchmarks.formats.refinements CHECKPOINT TEXT [--tokens 10240]

Writes results/refinements.json: mean KL(torch || graph), p99 and perplexity ratio for each combination.
"""

from __future__ import annotations

from neort_export.graph.passes import FoldOutliers, QuantizeEmbedding, QuantizeLinears
from neort_export.graph.passes.quantize_linears import MIDDLE
from neort_export.reference import calibrate

from ..harness.results import write_results
from ..harness.texts import parse_text_args
from .ablation import Ablation, Passes, Rows, on_twins


def ablate(ablation: Ablation) -> Rows:
    """Every variant's distance from torch."""
    ranges, _ = calibrate(ablation.reference, ablation.calibration)
    variants: dict[str, Passes] = {
        "plain": [QuantizeLinears(MIDDLE)],
        "zero point 32 after GELU": [QuantizeLinears(32)],
        "zero point 16 after GELU": [QuantizeLinears(16)],
        "folded": [FoldOutliers(ranges), QuantizeLinears(MIDDLE)],
        "folded, zero point 32": [FoldOutliers(ranges), QuantizeLinears(32)],
        "folded, zero point 16": [FoldOutliers(ranges), QuantizeLinears(16)],
        "folded, zero point 16, int8 embedding": [FoldOutliers(ranges), QuantizeLinears(16), QuantizeEmbedding()],
    }
    return {name: ablation.measure(name, passes) for name, passes in variants.items()}


def main() -> None:
    write_results("refinements", on_twins(parse_text_args(__doc__, 10_240), ablate))


if __name__ == "__main__":
    main()
