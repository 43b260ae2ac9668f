"""What does each refinement of int8-block and int4 buy? An ablation on a checkpoint and on its twin with outliers.

    python benchmarks/block_refinements.py CHECKPOINT TEXT [--tokens 51200]

Writes results/block_refinements.json: mean KL(torch || graph), p99 and perplexity ratio for each combination. It holds
the code of the refinements that were tried and dropped: searches for scales and zero points of less error.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from common import write_results
from neort_export.bundle import write_tokenizer
from neort_export.checkpoint import Checkpoint
from neort_export.formats import BLOCKS_OF_4_BITS, BLOCKS_OF_8_BITS
from neort_export.graph.passes import FoldOutliers, QuantizeBlocks, QuantizeEmbedding, QuantizeLinears
from neort_export.quantization.blockwise import BlockFormat, Blocks, block_columns, cover, round_steps
from neort_export.quantization.moments import Moments
from neort_export.reference import Reference, calibrate
from neort_export.verification.agreement import chunk_logits, compare
from neort_export.verification.texts import Texts
from outliers import inject_outliers
from quality import parse_args, read_sequences, torch_logits
from refinements import build

SHRINKS = np.linspace(0.7, 1.0, 7, dtype=np.float32)
SHIFTS = (-1, 0, 1)
SYMMETRIC_4 = replace(BLOCKS_OF_4_BITS, asymmetric=False)
ASYMMETRIC_8 = replace(BLOCKS_OF_8_BITS, asymmetric=True)
Floats = NDArray[np.float32]


class Throughout(BlockFormat):
    """Blocks that are as long where they do not cut the columns evenly; the last one is padded.

    For a checkpoint that is narrower than the format's blocks, this shows what they cost one that is not.
    """

    def fitting(self, columns: int) -> BlockFormat:
        return self


class Searched(QuantizeBlocks):
    """4 bit blocks whose scales and zero points have the least sum of |error|^power among a few.

    ``moments`` weigh each column by its mean square in the calibration text.
    """

    def __init__(self, moments: Moments | None = None, power: float = 2) -> None:
        super().__init__(BLOCKS_OF_4_BITS, BLOCKS_OF_8_BITS)
        self.weights = moments
        self.power = power

    def quantizer(self, name: str, form: BlockFormat) -> Callable[[Floats], Blocks]:
        return lambda rows: search_rows(rows, form, self._importance(name, rows.shape[1]), self.power)

    def _importance(self, name: str, columns: int) -> Floats:
        if self.weights is None:
            return np.ones(columns, np.float32)
        moments = self.weights.read(name)
        return np.diagonal(moments, axis1=1, axis2=2).reshape(-1)[:columns].astype(np.float32)


def search_rows(rows: Floats, form: BlockFormat, importance: Floats, power: float) -> Blocks:
    """Rows [n, K] in blocks, each with the best of the scales and zero points around those that cover it."""
    blocks = block_columns(rows, form)
    weights = block_columns(np.broadcast_to(importance, rows.shape), form)
    covering, zero = cover(blocks, form)
    best = (covering, zero, np.full(zero.shape, np.inf, np.float32))
    for shift in SHIFTS:
        shifted = np.clip(zero + np.float32(shift), 0, form.top)
        for scale in SHRINKS[:, None] * covering:
            error = np.abs(round_steps(blocks, scale, shifted, form) * scale - blocks)
            candidate = (scale, shifted, (error**power * weights).sum(axis=0))
            better = candidate[2] < best[2]
            best = tuple(np.where(better, new, old) for new, old in zip(candidate, best, strict=True))
    scale, zero, _ = best
    levels = (round_steps(blocks, scale, zero, form) + zero).astype(np.uint8)
    shape = (len(rows), -1)
    return Blocks(
        form,
        levels.T.reshape(len(rows), -1, form.size),
        scale.reshape(shape),
        zero.astype(np.uint8).reshape(shape),
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        twin = Path(folder) / "twin"
        inject_outliers(args.checkpoint, twin)
        measured = {
            args.checkpoint.name: ablate(args, args.checkpoint, Path(folder)),
            f"{args.checkpoint.name} with outliers": ablate(args, twin, Path(folder)),
        }
    return {"text": args.text.name, "tokens": args.tokens, "checkpoints": measured}


def ablate(args: argparse.Namespace, path: Path, folder: Path) -> dict[str, Any]:
    checkpoint = Checkpoint(path)
    reference = Reference(checkpoint)
    bundle = folder / f"bundle-{path.name}"
    bundle.mkdir()
    calibration = Texts(write_tokenizer(checkpoint, bundle), checkpoint.config).calibration
    sequences = read_sequences(args, bundle, checkpoint.config.max_position_embeddings)
    expected = list(torch_logits(reference, sequences))
    rows = {}
    for name, passes in variants().items():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            moments = Moments(Path(scratch) / "moments", 1024 if "1024" in name else 256)
            ranges, _ = calibrate(reference, calibration, moments)
            fold: list[ir.passes.InPlacePass] = [FoldOutliers(ranges, moments)] if "folded" in name else []
            session = build(checkpoint, bundle, [*fold, *passes(moments), QuantizeEmbedding()])
        rows[name] = compare(expected, chunk_logits(session, sequences), sequences).to_json()
        print(f"{path.name}, {name}: mean KL {rows[name]['mean_kl']:.2e}", flush=True)
    return rows


def variants() -> dict[str, Callable[[Moments], list[ir.passes.InPlacePass]]]:
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


if __name__ == "__main__":
    write_results("block_refinements", run(parse_args(__doc__, 51_200)))
