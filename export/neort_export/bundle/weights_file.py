"""Writes a graph and its weights: one tensor, or one range of a tensor's rows, in memory at a time."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir

from neort.bundle import WEIGHTS

from ..graph import INLINE_BYTES, name_of
from ..memory import return_freed
from ..quantization.tensors import LazyTensor

__all__ = ["external_weights", "write_graph"]

PAGE = 4096  # tensors start on pages, so that they can be memory-mapped

Progress = Callable[[int], object]


def write_graph(model: ir.Model, folder: Path, graph_file: str, progress: Progress = lambda _: None) -> str:
    """Write ``folder/graph_file`` and, beside it, weights.data with the initializers of 256 bytes and more.

    ``progress`` is called with the number of bytes after each write. The model is left as it was.
    Returns the sha256 of weights.data. Raises OSError when the disk is full.
    """
    digest = hashlib.sha256()
    external: dict[str, ir.ExternalTensor] = {}
    with (folder / WEIGHTS).open("wb") as stream:

        def write(data: memoryview) -> None:
            stream.write(data)
            digest.update(data)

        for value, tensor in external_weights(model):
            write(memoryview(bytes(-stream.tell() % PAGE)))
            offset = stream.tell()
            for rows in _row_ranges(tensor):
                write(rows)
                progress(rows.nbytes)
            return_freed()
            external[name_of(value)] = ir.ExternalTensor(
                WEIGHTS,
                offset,
                tensor.nbytes,
                tensor.dtype,
                shape=ir.Shape(tuple(tensor.shape.numpy())),
                name=name_of(value),
                base_dir=folder,
            )
    with _replaced(model, {**external, **_small_weights(model)}):
        ir.save(model, folder / graph_file)
    return digest.hexdigest()


def external_weights(model: ir.Model) -> list[tuple[ir.Value, ir.TensorProtocol]]:
    """The initializers that go into weights.data, in the graph's order."""
    initializers = model.graph.initializers.values()
    return [
        (v, v.const_value) for v in initializers if v.const_value is not None and v.const_value.nbytes >= INLINE_BYTES
    ]


def _small_weights(model: ir.Model) -> dict[str, ir.TensorProtocol]:
    """The other lazy tensors, computed here: what goes wrong then is not told as an error of writing the graph."""
    initializers = model.graph.initializers.items()
    lazy = ((name, value.const_value) for name, value in initializers if isinstance(value.const_value, LazyTensor))
    return {name: ir.tensor(tensor.numpy()) for name, tensor in lazy if tensor.nbytes < INLINE_BYTES}


def _row_ranges(tensor: ir.TensorProtocol) -> Iterator[memoryview]:
    ranges = tensor.in_ranges() if isinstance(tensor, LazyTensor) else iter([tensor.numpy()])
    return (np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data for rows in ranges)


@contextlib.contextmanager
def _replaced(model: ir.Model, tensors: Mapping[str, ir.TensorProtocol]) -> Iterator[None]:
    """The model with other tensors as some of its initializers."""
    values = model.graph.initializers
    before = {name: values[name].const_value for name in tensors}
    try:
        for name, tensor in tensors.items():
            values[name].const_value = tensor
        yield
    finally:
        for name, original in before.items():
            values[name].const_value = original
