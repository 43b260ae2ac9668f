"""A decoder graph in pieces: the embedding, each block, and the head, each small enough to be run alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..errors import ExportError
from ..quantization.tensors import RowTensor
from .rewrite import INLINE_BYTES, name_of, producer

__all__ = ["Segment", "cut"]

Array = NDArray[Any]

PIECE_BYTES = 32 << 20  # an fp32 lm_head is cut into pieces of the vocabulary of this size
NOWHERE = "detached"  # the file that a detached tensor names; it is never opened


@dataclass(frozen=True)
class Segment:
    """A part of a graph from the hidden states ``hidden`` (empty for the embedding) to the value ``output``.

    ``layer`` is the block's number, -1 for the embedding and the head; ``replaced`` holds weights that stand in for
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
        """The model without its weights, and these by name as arrays of the element types of ONNX."""
        weights = self._weights()
        model = self.model.clone()
        for name, tensor in weights.items():
            shape = ir.Shape(tuple(tensor.shape.numpy()))
            value = model.graph.initializers[name]
            value.const_value = ir.ExternalTensor(NOWHERE, 0, tensor.nbytes, tensor.dtype, shape=shape, name=name)
            value.shape = shape
        return ir.to_proto(model).SerializeToString(), {name: read(tensor) for name, tensor in weights.items()}

    def pieces(self) -> list[tuple[Segment, slice]]:
        """The head cut along the vocabulary, each part with its range, where its weight is large and in fp32."""
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
        """The embedding with only the rows of these tokens: the first one's is looked up with 0, the next with 1."""
        lookups = [n for n in self.model.graph if n.op_type == "Gather" and name_of(n.inputs[1]) == "input_ids"]
        tables = {name_of(lookup.inputs[0]): lookup.inputs[0].const_value for lookup in lookups}  # type: ignore[union-attr]
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
    """The embedding, the blocks and the head of a decoder graph, quantized or not, in order.

    Raises ExportError for a graph whose blocks share more than the hidden states.
    """
    borders = [_input_of(model.graph, f"transformer.h.{i}.ln_1.weight") for i in range(num_layers)]
    last = next(n.inputs[0] for n in model.graph if n.outputs[0].name == "hidden_by_sequence")
    cut_off = producer(last, "Slice")  # of the row that PadRows appends: left to the head, so that blocks keep it
    last = cut_off.inputs[0] if cut_off else last
    names = [name_of(value) for value in (*borders, last)]
    rows = name_of(model.graph.outputs[0].producer().inputs[0])  # type: ignore[union-attr]
    embedding = Segment(_extract(model, [], [names[0]]), "", names[0])
    head = Segment(_extract(model, [names[-1]], [rows]), names[-1], rows)
    blocks = []
    for i in range(num_layers):
        outputs = [names[i + 1], f"present.{i}.key", f"present.{i}.value"]
        blocks.append(Segment(_extract(model, [names[i]], outputs), names[i], names[i + 1], i))
        if sum(name.startswith("past_key_values.") for name in blocks[i].inputs) != 2:
            raise ExportError(f"block {i} of the graph needs more than its own cache; export the bundle again")
    return [embedding, *blocks, head]


def rows(tensor: ir.TensorProtocol, start: int, stop: int) -> ir.TensorProtocol:
    """Rows ``start:stop`` of a matrix, without reading the others."""
    if isinstance(tensor, RowTensor):
        return RowTensor(lambda a, b: tensor.rows(start + a, start + b), (stop - start, *tensor.dims[1:]), tensor.dtype)
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
    """The values of a tensor; a stored one is read, not memory-mapped, so that it leaves memory with the array."""
    if not isinstance(tensor, ir.ExternalTensor):
        return np.ascontiguousarray(tensor.numpy())
    shape = tensor.shape.numpy()
    count = int(np.prod(shape))
    values: Array = np.fromfile(Path(tensor.path), tensor.dtype.numpy(), count, offset=tensor.offset or 0)
    return values.reshape(shape)


def _input_of(graph: ir.Graph, gamma: str) -> ir.Value:
    """What the LayerNormalization with this weight normalizes."""
    norm = next(iter(graph.initializers[gamma].uses())).node
    value = norm.inputs[0]
    assert value is not None  # LayerNormalization always has an input
    return value


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
