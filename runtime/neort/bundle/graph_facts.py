"""Compares a decoder graph with the manifest: the inputs and outputs that a run binds, and every fact that both have.

Raises BundleError; knows nothing about onnxruntime.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import BundleError
from ..wording import shortened
from . import graph_names as names
from .graph_file import Graph, Node, Tensor, Value, read_graph
from .manifest import MANIFEST, REMEDY, ModelSpec

__all__ = ["check_graph", "keeps_own_rows"]

FLOAT32, INT8, INT32, INT64 = 1, 3, 6, 7  # element types by ONNX's numbers
TYPE_NAMES = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 10: "float16", 11: "float64"}
ATTENTION = "GroupQueryAttention"
GLOBAL, LOCAL = "global", "local"
WHOLE = -1  # local_window_size of a global layer

Signature = Mapping[str, Value]


def check_graph(data: bytes, file: Path, spec: ModelSpec, sizes: Mapping[str, int], cache_type: int) -> Graph:
    """Return the ONNX model ``data`` of ``file``, the decoder that ``spec`` describes; BundleError where it is not.

    ``sizes`` are the bytes of the files that the manifest lists, in which its weights must lie; ``cache_type`` is the
    cache's element type by ONNX's number.
    """
    try:
        graph = read_graph(data)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{file} is no ONNX model ({error}); {REMEDY}") from None
    _check_weights(graph, file, sizes)
    inputs, outputs = _signature(spec, cache_type)
    _check_signature(graph.inputs, inputs, "input", file)
    _check_signature(graph.outputs, outputs, "output", file)
    if graph.nested:
        raise BundleError(f"{file} computes in functions or in graphs of nodes, which no decoder has; {REMEDY}")
    for fact, found, stated in _facts(graph, spec):
        if found != stated:
            raise BundleError(
                f"{file} has {fact} {shortened(found)}, {MANIFEST} says {shortened(stated)}: one of them was changed; "
                f"{REMEDY}"
            )
    return graph


def keeps_own_rows(graph: Graph) -> bool:
    """Whether the rows of logits end at each sequence's own last token, which its length in the cache tells.

    In bundles of earlier versions they end at the last place of the run, which in a batch is the longest one's.
    """
    return any(names.SEQLENS_K in node.inputs and node.operator != ATTENTION for node in graph.nodes)


def _check_weights(graph: Graph, file: Path, sizes: Mapping[str, int]) -> None:
    """Raises BundleError where weights lie in a file that the manifest does not vouch for, or not within their file."""
    if foreign := graph.locations - sizes.keys():
        raise BundleError(
            f"{file} reads its weights from {shortened(min(foreign))}, which the manifest does not list; the bundle "
            "was tampered with: copy or export it again"
        )
    for name, tensor in graph.tensors.items():
        if tensor.location is None:
            continue
        length = tensor.nbytes if tensor.length is None else tensor.length
        if min(tensor.shape, default=0) < 0 or length is None or length != tensor.nbytes:
            raise BundleError(
                f"{file} has {shortened(name)} of shape {shortened(tensor.shape)} in {shortened(length)} bytes, which "
                f"do not fit; {REMEDY}"
            )
        if tensor.offset + length > sizes[tensor.location]:
            raise BundleError(
                f"{file} has {shortened(name)} up to byte {tensor.offset + length:,} of {tensor.location}, which has "
                f"{sizes[tensor.location]:,}; {REMEDY}"
            )


def _signature(spec: ModelSpec, cache_type: int) -> tuple[Signature, Signature]:
    """The inputs and outputs of a decoder, as docs/bundle.md has them."""
    rows = Value(cache_type, (None, spec.num_heads, None, spec.head_dim))
    parts = names.cache_parts(spec.num_layers)
    inputs = {
        names.INPUT_IDS: Value(INT64, (None, None)),
        names.POSITION_IDS: Value(INT64, (None, None)),
        names.SEQLENS_K: Value(INT32, (None,)),
        names.TOTAL_SEQUENCE_LENGTH: Value(INT32, ()),
        names.LOCAL_SEQLENS_K: Value(INT32, (None,)),
        names.LOCAL_TOTAL_SEQUENCE_LENGTH: Value(INT32, ()),
        names.LOGITS_TO_KEEP: Value(INT64, ()),
        **{names.past(part): rows for part in parts},
    }
    logits = Value(FLOAT32, (None, None, spec.vocab_size))
    return inputs, {names.LOGITS: logits, **{names.present(part): rows for part in parts}}


def _check_signature(found: Signature, needed: Signature, kind: str, file: Path) -> None:
    """Raises BundleError where inputs or outputs have other names, types or shapes than a run binds."""
    for name in [*needed, *found]:
        if name not in found or name not in needed:
            what = f"has no {kind} {name}" if name in needed else f"has an {kind} {shortened(name)}"
            raise BundleError(f"{file} {what}: it is not the decoder of the model that {MANIFEST} describes; {REMEDY}")
        if found[name] != needed[name]:
            raise BundleError(
                f"{file} has the {kind} {name} as {_words(found[name])}, the model that {MANIFEST} describes has it as "
                f"{_words(needed[name])}; {REMEDY}"
            )


def _words(value: Value) -> str:
    """A value's type and shape: "int8 [*, 12, *, 64]"."""
    kind = TYPE_NAMES.get(value.element_type, f"type {shortened(value.element_type)}")
    if value.shape is None:
        return f"{kind} without a shape"
    axes = ", ".join("*" if axis is None else shortened(axis) for axis in value.shape[:8])
    return f"{kind} [{axes}]"


def _facts(graph: Graph, spec: ModelSpec) -> Iterator[tuple[str, Any, Any]]:
    """What the graph computes with and the manifest states, as name, the graph's value, the manifest's.

    Inputs and outputs are taken for right; so heads and head_dim are.
    """
    for ids, fact, rows in (
        (names.POSITION_IDS, "max_position_embeddings", spec.max_position_embeddings),
        (names.INPUT_IDS, "vocab_size", spec.vocab_size),
    ):
        shapes = [table.shape for table in _tables(graph, ids)]
        if not shapes or any(len(shape) != 2 for shape in shapes):
            yield f"embeddings of {ids} with the shapes", shapes, [(rows, spec.hidden_size)]
        for shape in shapes:
            yield fact, shape[0], rows
        yield "hidden_size", max(shape[1] for shape in shapes), spec.hidden_size
    layers = [node for node in graph.nodes if node.operator == ATTENTION]
    yield "num_layers", len(layers), spec.num_layers
    for i, (node, kind) in enumerate(zip(layers, spec.attention_layers, strict=True)):
        yield from _attention_facts(node, i, kind, spec)


def _tables(graph: Graph, ids: str) -> list[Tensor]:
    """The constants of which ids choose rows."""
    gathers = [node.inputs for node in graph.nodes if node.operator == "Gather" and node.inputs[1:] == (ids,)]
    return [graph.tensors[inputs[0]] for inputs in gathers if inputs[0] in graph.tensors]


def _attention_facts(node: Node, layer: int, kind: str, spec: ModelSpec) -> Iterator[tuple[str, Any, Any]]:
    """What one layer's attention says; the lengths that it reads are those of its kind of layer."""
    key, value = names.layer_parts(layer)
    lengths = (names.SEQLENS_K, names.TOTAL_SEQUENCE_LENGTH)
    if kind == LOCAL:
        lengths = (names.local(lengths[0]), names.local(lengths[1]))
    window = node.integers.get("local_window_size", WHOLE)
    yield f"as kind of layer {layer}", LOCAL if window > 0 else GLOBAL, kind
    yield f"window_size of layer {layer}", window, spec.window_size if kind == LOCAL else WHOLE
    yield f"num_heads of layer {layer}", node.integers.get("num_heads"), spec.num_heads
    yield f"num_heads of layer {layer} (keys)", node.integers.get("kv_num_heads"), spec.num_heads
    read = (names.past(key), names.past(value), *lengths)
    yield f"inputs of layer {layer}", node.inputs[3:7], read
    yield f"outputs of layer {layer}", node.outputs[1:3], (names.present(key), names.present(value))
