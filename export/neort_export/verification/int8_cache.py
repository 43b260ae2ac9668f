"""The decoder with an int8 cache: what its keys and values look like on the calibration text, and its graph file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from neort.backend import DECODER, DECODERS
from neort.bundle import ModelSpec

from ..errors import CheckpointError
from ..graph import int8_cache_graph
from .agreement import chunk_logits
from .layerwise import LayerwiseRunner

__all__ = ["write_int8_cache"]


def write_int8_cache(
    folder: Path, spec: ModelSpec, sequences: Sequence[Sequence[int]], progress: Callable[[LayerwiseRunner], object]
) -> None:
    """Write the graph beside the folder's decoder.onnx, whose places in weights.data it reads too.

    ``sequences`` of token ids are run through that graph once, layer by layer, by ``progress``, which calls the
    runner's ``run``; the scales follow from the keys and values that it stores.

    Raises CheckpointError where these are NaN or infinite.
    """
    decoder = ir.load(folder / DECODER)
    largest: dict[str, NDArray[np.float32]] = {}

    def watch(name: str, rows: NDArray[np.float32]) -> None:
        reach = np.abs(rows).max(axis=1)
        if not np.isfinite(reach).all():
            raise CheckpointError(
                f"the quantized graph computes NaN or infinite values for its cache {name}: some of the checkpoint's "
                "weights are near float32's limit of 3.4e38; export it with --quantization fp32, which keeps them as "
                "they are"
            )
        largest[name] = np.maximum(largest[name], reach) if name in largest else reach

    runner = LayerwiseRunner(decoder, spec, watch)
    runner.record(lambda r: list(chunk_logits(r, sequences, logits=False)))
    progress(runner)
    ir.save(int8_cache_graph(decoder, largest), folder / DECODERS["int8"])
