"""The graphs of a bundle: the traced model, and what the passes make of it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import ClearMetadataAndDocStringPass, RemoveUnusedNodesPass

from neort.bundle import FORMATS, BlockFormat, Quantization

from ..checkpoint import Checkpoint
from ..quantization.moments import Moments
from ..reference import ChannelRange
from .passes import (
    BindWeights,
    FlattenTokens,
    FoldOutliers,
    FuseGelu,
    FuseGeluBias,
    FuseLinears,
    KeepLastLogits,
    PackQKV,
    PadHeads,
    PadRows,
    PortableSignature,
    QuantizeBlocks,
    QuantizeCache,
    QuantizeEmbedding,
    QuantizeLinears,
)
from .trace import trace

__all__ = ["decoder_graph", "int8_cache_graph", "portable_graph", "quantize"]


def decoder_graph(checkpoint: Checkpoint) -> ir.Model:
    """Build the decoder in fp32: in-place cache, packed q/k/v, padded heads, logits of the last positions.

    Raises ExportError where a pass does not find what it rewrites.
    """
    model = trace(checkpoint.config)
    ClearMetadataAndDocStringPass()(model)  # torch notes the source line of every node
    pack, pad = PackQKV(checkpoint.architecture), PadHeads(checkpoint.dimensions)
    _run(model, BindWeights(checkpoint), FuseGelu(), pack, FlattenTokens(), FuseLinears(), pad, KeepLastLogits())
    return model


def quantize(
    model: ir.Model,
    ranges: Mapping[str, ChannelRange],
    quantization: Quantization = "int8",
    moments: Moments | None = None,
) -> None:
    """Turn a decoder graph into a format other than fp32, in place.

    ``ranges`` and ``moments`` come from calibration; moments serve formats that compensate rounding errors, and are
    read when the graph is written.
    """
    form = FORMATS[quantization]
    linears: list[ir.passes.InPlacePass] = [QuantizeLinears(), FuseGeluBias()]
    if isinstance(form.linears, BlockFormat) and isinstance(form.head, BlockFormat):
        linears = [QuantizeBlocks(form.linears, form.head, moments if form.compensated else None), PadRows()]
    _run(model, FoldOutliers(ranges, moments), *linears, QuantizeEmbedding())


def int8_cache_graph(decoder: ir.Model, largest: Mapping[str, NDArray[np.float32]]) -> ir.Model:
    """Return a quantized decoder graph with an int8 cache (see `QuantizeCache`); its weights are shared."""
    model = decoder.clone()
    _run(model, QuantizeCache(largest))
    return model


def portable_graph(decoder: ir.Model) -> ir.Model:
    """Return a decoder graph of any format under the signature that other programs expect; its weights are shared."""
    model = decoder.clone()
    _run(model, PortableSignature())
    return model


def _run(model: ir.Model, *passes: ir.passes.InPlacePass) -> None:
    for rewrite in (*passes, RemoveUnusedNodesPass()):
        rewrite(model)
