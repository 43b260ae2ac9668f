"""A decoder graph in parts: the embedding, each layer, and the head, each small enough to be run alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..errors import ExportError
from ..quantization.tensors import LazyTensor
from . import names
from .rewrite import INLINE_BYTES, name_of, named_value, nodes, producer

__all__ = ["Segment", "cache_type", "cut", "keeps_own_rows"]

Array = NDArray[Any]

PIECE_BYTES = 32 << 20  # an fp32 lm_head is cut into pieces of the vocabulary of this size
NOWHERE = "detached"  # the file that a detached tensor names; it is never opened


@dataclass(frozen=True)
class Segment:
    """A part of a graph from the hidden states ``hidden`` (empty for the embedding) to the value ``output``.

    ``layer`` is the layer's number, -1 for the embedding and the head; ``replaced`` holds weights that stand in for
    those of the graph.
    """

    model: ir.Model
    hidden: str
    output: str
    layer: int = -1
    replaced: dict[str, ir.TensorProtocol] = field(default_factory=dict)

    @property
    def inputs(self) -> list[str]:
        """Names of the inputs."""
        return [name_of(value) for value in self.model.graph.inputs]

    @property
    def nbytes(self) -> int:
        """Bytes of the weights."""
        return sum(tensor.nbytes for tensor in self._weights().values())

    def detached(self) -> tuple[bytes, dict[str, Array]]:
        """Return the model without its weights, serialized, and these by name as arrays of ONNX's element types."""
        weights = self._weights()
        model = self.model.clone()
        for name, tensor in weights.items():
            shape = ir.Shape(tuple(tensor.shape.numpy()))
            value = model.graph.initializers[name]
            value.const_value = ir.ExternalTensor(NOWHERE, 0, tensor.nbytes, tensor.dtype, shape=shape, name=name)
            value.shape = shape
        return ir.to_proto(model).SerializeToString(), {name: read(tensor) for name, tensor in weights.items()}

    def pieces(self) -> list[tuple[Segment, slice]]:
        """Cut the head along the vocabulary, each piece with its range, where its weight is large and in fp32."""
        gemm = next((node for node in self.model.graph if node.op_type == "Gemm"), None)
        weight = gemm.inputs[1].const_value if gemm and gemm.inputs[1] is not None else None
        if gemm is None or weight is None or weight.nbytes <= PIECE_BYTES:
            return [(self, slice(None))]
        count = int(weight.shape[0])  # type: ignore[arg-type]
        step = max(1, PIECE_BYTES * count // weight.nbytes // 64 * 64)
        ranges = [(start, min(start + step, count)) for start in range(0, count, step)]
        name = name_of(gemm.inputs[1])
        return [
            (Segment(self.model, self.hidden, self.output, replaced={name: rows(weight, *limits)}), slice(*limits))
            for limits in ranges
        ]

    def for_tokens(self, token_ids: NDArray[np.int64]) -> Segment:
        """Return the embedding with these tokens' rows only: the first one's is looked up with 0, the next with 1."""
        lookups = [n for n in nodes(self.model.graph, "Gather") if name_of(n.inputs[1]) == names.INPUT_IDS]
        tables = {name_of(table): table.const_value for table in (lookup.inputs[0] for lookup in lookups) if table}
        chosen = {
            name: ir.tensor(np.concatenate([read(rows(table, i, i + 1)) for i in token_ids.tolist()]))
            for name, table in tables.items()
            if table is not None
        }
        return replace(self, replaced=chosen)

    def _weights(self) -> dict[str, ir.TensorProtocol]:
        tensors = {
            name: value.const_value for name, value in self.model.graph.initializers.items() if value.const_value
        }
        large = {name: tensor for name, tensor in tensors.items() if tensor.nbytes >= INLINE_BYTES}
        return large | self.replaced


def cut(model: ir.Model, num_layers: int) -> list[Segment]:
    """Cut a decoder graph, quantized or not, into the embedding, the layers and the head, in this order.

    Raises ExportError for a graph whose layers share more than the hidden states.
    """
    borders = _borders(model.graph)
    logits = named_value(model.graph, names.LOGITS)
    head_rows = logits.producer() if logits else None
    if len(borders) != num_layers + 1 or head_rows is None:
        raise ExportError(f"the graph has {len(borders) - 1} layers instead of {num_layers}; export the bundle again")
    first, last, rows = borders[0], borders[-1], name_of(head_rows.inputs[0])
    embedding = Segment(_extract(model, [], [first]), "", first)
    head = Segment(_extract(model, [last], [rows]), last, rows)
    return [embedding, *(_layer(model, i, borders[i], borders[i + 1]) for i in range(num_layers)), head]


def _borders(graph: ir.Graph) -> list[str]:
    """The hidden states before each layer and after the last one, in order."""
    before = [_normed(attention) for attention in nodes(graph, "GroupQueryAttention")]
    by_sequence = named_value(graph, names.HIDDEN_BY_SEQUENCE)
    view = by_sequence.producer() if by_sequence else None
    last = view.inputs[0] if view else None
    cut_off = producer(last, "Slice")  # of the row that PadRows appends: left to the head, so that layers keep it
    return [*map(name_of, before), name_of(cut_off.inputs[0] if cut_off else last)]


def _normed(attention: ir.Node) -> ir.Value | None:
    """What the LayerNormalization before an attention normalizes: the input of the layer."""
    reached, norm = [attention.inputs[0]], None
    while reached and norm is None:
        value = reached.pop(0)
        norm = producer(value, "LayerNormalization")
        node = value.producer() if value is not None else None
        reached += node.inputs if node else []
    return norm.inputs[0] if norm else None


def _layer(model: ir.Model, index: int, hidden: str, output: str) -> Segment:
    cache = [names.present(part) for part in names.layer_parts(index)]
    layer = Segment(_extract(model, [hidden], [output, *cache]), hidden, output, index)
    if sum(map(names.is_past, layer.inputs)) != len(cache):
        raise ExportError(f"layer {index} of the graph needs more than its own cache; export the bundle again")
    return layer


def cache_type(model: ir.Model) -> ir.DataType | None:
    """Return the element type of the graph's past."""
    return next(value for value in model.graph.inputs if names.is_past(value.name)).dtype


def keeps_own_rows(model: ir.Model) -> bool:
    """Whether the rows of logits end at each sequence's own last token: see `KeepLastLogits`.

    In graphs of earlier versions they end at the run's last place.
    """
    last = named_value(model.graph, names.LAST_BY_SEQUENCE)
    return producer(last, "GatherND") is not None


def rows(tensor: ir.TensorProtocol, start: int, stop: int) -> ir.TensorProtocol:
    """Return rows ``start:stop`` of a matrix, without reading the others."""
    if isinstance(tensor, LazyTensor):
        return LazyTensor(
            lambda a, b: tensor.rows(start + a, start + b), (stop - start, *tensor.dims[1:]), tensor.dtype
        )
    if not isinstance(tensor, ir.ExternalTensor):
        return ir.tensor(tensor.numpy()[start:stop])
    shape = (stop - start, *tensor.shape.numpy()[1:])
    width = tensor.nbytes // int(tensor.shape[0])  # type: ignore[arg-type]
    return ir.ExternalTensor(
        tensor.location,
        (tensor.offset or 0) + start * width,
        (stop - start) * width,
        tensor.dtype,
        shape=ir.Shape(shape),
        name=tensor.name or "",
        base_dir=tensor.base_dir,
    )


def read(tensor: ir.TensorProtocol) -> Array:
    """Return the values of a tensor; a stored one is read, not memory-mapped, so it leaves memory with the array."""
    if not isinstance(tensor, ir.ExternalTensor):
        return np.ascontiguousarray(tensor.numpy())
    shape = tensor.shape.numpy()
    count = int(np.prod(shape))
    values: Array = np.fromfile(Path(tensor.path), tensor.dtype.numpy(), count, offset=tensor.offset or 0)
    return values.reshape(shape)


def _extract(model: ir.Model, hidden: Sequence[str], outputs: Sequence[str]) -> ir.Model:
    """The nodes between some hidden states and some outputs; of the graph's inputs only those that they read."""
    candidates = [*hidden, *(name_of(value) for value in model.graph.inputs)]
    graph = ir.convenience.extract(model.graph, candidates, outputs)
    used = {value.name for node in graph for value in node.inputs if value is not None}
    for value in [v for v in graph.inputs if v.name not in used]:
        graph.inputs.remove(value)
    for value in (*graph.inputs[: len(hidden)], *graph.outputs):
        value.type = value.type or ir.TensorType(ir.DataType.FLOAT)
    return ir.Model(graph, ir_version=model.ir_version)
