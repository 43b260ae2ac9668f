"""What the passes share: finding nodes, adding nodes and initializers, and the base class that counts rewrites."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..errors import ExportError
from ..quantization.tensors import LazyTensor
from . import names

__all__ = [
    "CONTRIB",
    "INLINE_BYTES",
    "Rewrite",
    "add_initializer",
    "add_node",
    "axis",
    "constant",
    "is_head",
    "name_of",
    "named_value",
    "nodes",
    "producer",
    "replace_uses",
    "weight_of",
]

CONTRIB = "com.microsoft"
INLINE_BYTES = 256  # smaller tensors (shapes, scalars) stay in the graph


class Rewrite(ir.passes.InPlacePass, abc.ABC):
    """A pass that rewrites places in the graph and fails when it finds fewer than ``at_least``.

    A checkpoint that the exporter accepts always has the patterns that its passes look for; a trace without them
    (a changed release of torch or transformers, say) would otherwise give a graph that is quietly slower or larger.
    """

    at_least = 1

    @abc.abstractmethod
    def rewrite(self, graph: ir.Graph) -> int:
        """Rewrite ``graph`` in place and return the number of places."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite a model's graph. Raises ExportError where fewer than ``at_least`` places are found."""
        count = self.rewrite(model.graph)
        if count < self.at_least:
            raise ExportError(
                f"{type(self).__name__} found {count} places to rewrite, at least {self.at_least} expected: this "
                "release of torch or transformers traces the model differently; use one that the extra `export` names"
            )
        return ir.passes.PassResult(model, modified=count > 0)


def nodes(graph: ir.Graph, op_type: str) -> Iterator[ir.Node]:
    """Yield the nodes of one operator in the graph's order; safe against changes while iterating."""
    return (node for node in list(graph) if node.op_type == op_type)


def named_value(graph: ir.Graph, name: str) -> ir.Value | None:
    """Return the value of this name that a node computes, or None."""
    return next((value for node in graph for value in node.outputs if value.name == name), None)


def producer(value: ir.Value | None, op_type: str) -> ir.Node | None:
    """Return the node that computes ``value``, if it is of this operator."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type == op_type else None


def is_head(linear: ir.Node) -> bool:
    """Say whether a linear layer is lm_head, which computes the rows of logits (see `KeepLastLogits`)."""
    return linear.outputs[0].name == names.LOGIT_ROWS


def add_initializer(graph: ir.Graph, name: str, tensor: ir.TensorProtocol | NDArray[np.generic]) -> ir.Value:
    """Add a new initializer to the graph."""
    const = ir.tensor(tensor) if isinstance(tensor, np.ndarray) else tensor
    value = ir.Value(name=name, shape=ir.Shape(const.shape.numpy()), type=ir.TensorType(const.dtype), const_value=const)
    const.name = name
    graph.register_initializer(value)
    return value


def constant(graph: ir.Graph, name: str, array: NDArray[np.generic]) -> ir.Value:
    """Return an initializer that several rewrites share by its name; the first one adds it."""
    return graph.initializers.get(name) or add_initializer(graph, name, array)


def axis(graph: ir.Graph, index: int) -> ir.Value:
    """Return the number of an axis, int64 [1], as operators take it."""
    return constant(graph, f"axis_{index}", np.array([index], np.int64))


def add_node(
    before: ir.Node,
    op_type: str,
    inputs: list[ir.Value | None],
    attributes: Mapping[str, int | float | str] | None = None,
    *,
    name: str,
    domain: str = "",
    like: ir.Value | None = None,
) -> ir.Value:
    """Insert a one-output node; its output is called ``name`` and takes type and shape from ``like``."""
    node = ir.node(op_type, inputs, attributes, domain=domain, name=f"{name}/{op_type}")
    output = node.outputs[0]
    output.name = name
    if like is not None:
        output.type, output.shape = like.type, like.shape
    graph = before.graph
    if graph is None:
        raise ExportError(f"cannot insert {name} before a node that is in no graph")
    graph.insert_before(before, node)
    return output


def name_of(value: ir.Value | None) -> str:
    """Return the name of a value that a node needs. Raises ExportError for none: every traced value has a name."""
    if value is None or value.name is None:
        raise ExportError(
            "the traced graph has a node without one of its inputs; use a torch that the extra `export` names"
        )
    return value.name


def replace_uses(old: ir.Value, new: ir.Value) -> None:
    """Let every consumer of ``old`` read ``new``, which also takes its place as an output of the graph."""
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)


def weight_of(value: ir.Value | None) -> LazyTensor:
    """Return the lazy tensor of an initializer. Raises ExportError for anything else."""
    tensor = value.const_value if value is not None else None
    if not isinstance(tensor, LazyTensor):
        raise ExportError(f"{value} is not a weight of the checkpoint")
    return tensor
