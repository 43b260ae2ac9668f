"""Outlier channels are moved out of the activations before these are quantized."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ...checkpoint import refuse_overflow
from ...quantization.moments import Moments
from ...quantization.tensors import Floats, LazyTensor, column_maxima, row_products, scaled
from ...reference import ChannelRange
from .. import names
from ..rewrite import Rewrite, add_initializer, name_of, nodes, producer, weight_of

__all__ = ["FoldOutliers"]


class FoldOutliers(Rewrite):
    """LayerNorm(x; g, b) W' -> LayerNorm(x; g/s, (b-c)/s) (W s)' + W c, and likewise v_proj into out_proj.

    Exact in real arithmetic, channel by channel: the shift ``c`` is the middle of the channel's calibrated range and
    the scale ``s`` = sqrt(half range / max |W column|) shares the channel's size between activation and weight.
    Attention weights sum to 1, so a shift of the values passes through attention unchanged.

    Raises CheckpointError where a folded weight leaves float32's range.

    Shift: Outlier Suppression+ (Wei et al., arXiv 2304.09145). Scale: SmoothQuant (Xiao et al., arXiv 2211.10438),
    with its migration strength of 0.5.
    """

    def __init__(self, ranges: Mapping[str, ChannelRange], moments: Moments | None = None) -> None:
        """``ranges`` maps the weight name of a linear layer to the calibrated range of its input channels.

        ``moments`` are told what is folded.
        """
        super().__init__()
        self.ranges = ranges
        self.moments = moments

    def rewrite(self, graph: ir.Graph) -> int:
        sources = [(linear, _source(linear)) for linear in nodes(graph, "Gemm")]
        found = [(linear, source) for linear, source in sources if source and _weight_name(linear) in self.ranges]
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # what comes of it is looked at
            for linear, source in found:
                self._fold(graph, linear, source)
        return len(found)

    def _fold(self, graph: ir.Graph, linear: ir.Node, source: ir.Node) -> None:
        name = _weight_name(linear)
        shift, scale = _shift_and_scale(self.ranges[name], weight_of(linear.inputs[1]))
        if source.op_type == "LayerNormalization":
            _fold_norm(graph, source, shift, scale)
        else:
            _fold_values(graph, source, shift, scale)
        _absorb(graph, linear, shift, scale)
        if self.moments:
            self.moments.fold(name, shift, scale)


def _source(linear: ir.Node) -> ir.Node | None:
    """The LayerNormalization, or the packed q/k/v product before the attention, that makes a linear layer's input."""
    x = linear.inputs[0]
    norm = producer(x, "LayerNormalization")
    reshape = producer(x, "Reshape")
    attention = producer(reshape.inputs[0], "GroupQueryAttention") if reshape else None
    by_sequence = producer(attention.inputs[0], "Reshape") if attention else None
    return norm or (producer(by_sequence.inputs[0], "Gemm") if by_sequence else None)


def _weight_name(linear: ir.Node) -> str:
    weight = linear.inputs[1]
    return (weight.name if weight is not None else None) or ""


def _shift_and_scale(channels: ChannelRange, weight: LazyTensor) -> tuple[Floats, Floats]:
    shift = (channels.high + channels.low) / 2
    reach = (channels.high - channels.low) / 2
    columns = column_maxima(weight)
    usable = (reach > 0) & (columns > 0)
    ratio = np.divide(reach, columns, out=np.ones_like(reach), where=usable)
    scale = np.where(usable, np.sqrt(ratio), 1.0)
    return shift.astype(np.float32), scale.astype(np.float32)


def _fold_norm(graph: ir.Graph, norm: ir.Node, shift: Floats, scale: Floats) -> None:
    gamma, beta = (weight_of(value).numpy() for value in norm.inputs[1:3])
    _replace(graph, norm, 1, gamma / scale)
    _replace(graph, norm, 2, (beta - shift) / scale)


def _fold_values(graph: ir.Graph, packed: ir.Node, shift: Floats, scale: Floats) -> None:
    """The last third of the packed rows computes the values: they leave the product shifted and scaled."""
    weight = weight_of(packed.inputs[1])
    rows = np.ones(weight.row_count, np.float32)
    bias = _bias(packed, weight.row_count)
    values = slice(2 * weight.row_count // 3, None)
    rows[values] = 1 / scale
    bias[values] = (bias[values] - shift) / scale
    _replace(graph, packed, 1, scaled(weight, rows=rows))
    _replace(graph, packed, 2, bias)


def _absorb(graph: ir.Graph, linear: ir.Node, shift: Floats, scale: Floats) -> None:
    """The layer that reads the folded channels: columns times the scale, the shift's product in the bias."""
    weight = weight_of(linear.inputs[1])
    bias = _bias(linear, weight.row_count) + row_products(weight, shift)
    _replace(graph, linear, 1, scaled(weight, columns=scale))
    _replace(graph, linear, 2, bias)


def _bias(linear: ir.Node, size: int) -> Floats:
    value = linear.inputs[2] if len(linear.inputs) > 2 else None
    if value is None or value.const_value is None:
        return np.zeros(size, np.float32)
    bias: Floats = value.const_value.numpy().astype(np.float32)
    return np.array(bias)


def _replace(graph: ir.Graph, node: ir.Node, index: int, tensor: LazyTensor | NDArray[np.floating]) -> None:
    """Give a node a new initializer in the place and under the name of its old one, or a new bias."""
    old = node.inputs[index] if index < len(node.inputs) else None
    name = name_of(old) if old else names.module_of(_weight_name(node)) + ".bias"
    new = tensor if isinstance(tensor, LazyTensor) else _array(name, tensor.astype(np.float32))
    if old is None:
        node.resize_inputs(index + 1)
        node.replace_input_with(index, add_initializer(graph, name, new))
    else:
        new.name = name
        old.const_value = new


def _array(name: str, array: Floats) -> LazyTensor:
    refuse_overflow(name, array)
    return LazyTensor(lambda start, stop: array[start:stop], array.shape)
