"""The hidden states of a decoder's layers: which values of its graph they are, and the last normalization.

A bundle's graphs have no outputs for them. But a protobuf message is merged with another one by appending its bytes, so
a few of these turn any values of a graph into outputs, and the file stays as it is.

Knows graphs and weights; runs no model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..arrays import AnyArray, Floats
from ..bundle import WEIGHTS, Bundle, Graph, Node, Tensor, message_field
from ..errors import UnsupportedError

__all__ = ["FinalNorm", "final_norm", "hidden_values", "with_outputs"]

NORM = "LayerNormalization"
VIEWS = ("Reshape", "Slice", "GatherND")  # between the last layer and the last normalization, which sees some rows only
FLOAT_TENSOR = message_field(1, b"\x08\x01")  # a TypeProto of float32, of any shape
EMBEDDING, HEAD = "transformer.wte.weight", "lm_head.weight"
DTYPES: dict[int, Any] = {1: np.float32, 2: np.uint8, 3: np.int8}
ROWS_PER_CHANNEL = 4  # rows of lm_head from which a channel's scale and shift are solved: their rounding averages out
ROWS_AT_ONCE = 2048
MIDDLE = 128  # zero point of blocks of 8 bits
SMALLEST = 1e-10  # of the singular values, below which a direction counts as missing

FinalNorm = Callable[[Floats], Floats]


def hidden_values(graph: Graph) -> list[str]:
    """The names of the values that transformers calls hidden_states, [rows, K]: what each layer is given, and the
    last one's result before the last normalization.

    Rows are those of all tokens, sequence after sequence; there may be one more, of zeros. Raises UnsupportedError for
    a graph of another build.
    """
    norms = [node.inputs[0] for node in graph.nodes if node.operator == NORM]
    if len(norms) % 2 == 0:
        raise UnsupportedError(
            f"this graph has {len(norms)} normalizations, not two per layer and a last one, so its hidden states "
            "cannot be told; export the checkpoint again"
        )
    made: dict[str, Node] = {name: node for node in graph.nodes for name in node.outputs}
    last = norms[-1]
    while last in made and made[last].operator in VIEWS:
        last = made[last].inputs[0]
    return [*norms[:-1:2], last]


def with_outputs(model: bytes, values: Sequence[str]) -> bytes:
    """An ONNX model whose graph also puts out these values, which are float32."""
    outputs = (message_field(12, message_field(1, name.encode()) + message_field(2, FLOAT_TENSOR)) for name in values)
    return model + message_field(7, b"".join(outputs))


def final_norm(bundle: Bundle, graph: Graph) -> FinalNorm:
    """The last normalization as the checkpoint has it, from the last layer's result [S, K] to the same shape.

    In quantized formats the exporter has folded a scale s and a shift c per channel into lm_head: the graph's gain
    and bias are g / s and (b - c) / s, lm_head's weights are W s, and its own bias is W c. Where W is the embedding,
    which the bundle holds as well, s and c follow from these by least squares, up to the weights' rounding.

    Raises UnsupportedError where they do not: in a quantized format of a checkpoint whose lm_head is not tied.
    """
    config = bundle.read_json("config.json")
    gain_name, bias_name = [node for node in graph.nodes if node.operator == NORM][-1].inputs[1:3]
    weights = _Weights(bundle, graph)
    gain, bias = weights.whole(gain_name), weights.whole(bias_name)
    if f"{HEAD.rpartition('.')[0]}.bias" in graph.tensors:
        if not config.get("tie_word_embeddings", True):
            raise UnsupportedError(
                f"the hidden states after the last normalization cannot be told from a {bundle.quantization} bundle "
                "whose lm_head is not tied to the embedding; use layer=-2, or export the checkpoint as fp32"
            )
        scale, shift = _folded(weights)
        gain, bias = gain * scale, bias * scale + shift
    epsilon = float(config.get("layer_norm_epsilon", 1e-5))

    def normalized(rows: Floats) -> Floats:
        centred = rows - rows.mean(axis=-1, keepdims=True)
        deviation = np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + epsilon)
        result: Floats = centred / deviation * gain + bias
        return result

    return normalized


def _folded(weights: _Weights) -> tuple[Floats, Floats]:
    """The scale and the shift of each channel that were folded into lm_head, float32 [K] each."""
    vocabulary, channels = weights.tensor(f"{EMBEDDING}_quantized").shape
    step = max(1, vocabulary // (ROWS_PER_CHANNEL * channels))
    products, squares, biased = np.zeros(channels), np.zeros(channels), np.zeros(channels)
    gram = np.zeros((channels, channels))
    head_bias = weights.whole("lm_head.bias")
    for start in range(0, vocabulary, step * ROWS_AT_ONCE):
        rows = slice(start, min(start + step * ROWS_AT_ONCE, vocabulary), step)
        embedding = weights.embedding(rows).astype(np.float64)
        products += (weights.head(rows) * embedding).sum(axis=0)
        squares += np.square(embedding).sum(axis=0)
        gram += embedding.T @ embedding
        biased += embedding.T @ head_bias[rows]
    scale = np.divide(products, squares, out=np.ones(channels), where=(squares > 0) & (products > 0))
    shift = np.linalg.lstsq(gram, biased, rcond=SMALLEST)[0]
    return scale.astype(np.float32), shift.astype(np.float32)


class _Weights:
    """The constants of a decoder graph in the bundle's weight file, mapped into memory."""

    def __init__(self, bundle: Bundle, graph: Graph) -> None:
        self._graph = graph
        self._data = np.memmap(bundle.file(WEIGHTS), np.uint8, "r")

    def tensor(self, name: str) -> Tensor:
        """What the graph says of a constant. Raises UnsupportedError where it has none of that name."""
        if name not in self._graph.tensors:
            raise UnsupportedError(f"this graph has no {name}, as every decoder has; export the checkpoint again")
        return self._graph.tensors[name]

    def whole(self, name: str) -> AnyArray:
        """A constant, from the file or from the graph."""
        facts = self.tensor(name)
        data: AnyArray = self._data[facts.offset : facts.offset + (facts.nbytes or 0)]
        if facts.location is None:
            data = np.frombuffer(facts.data, np.uint8)
        array: AnyArray = data.view(DTYPES[facts.element_type]).reshape(facts.shape)
        return array

    def embedding(self, rows: slice) -> Floats:
        """Rows of the token embedding, float32 [n, K]."""
        quantized, scale = self.whole(f"{EMBEDDING}_quantized"), self.whole(f"{EMBEDDING}_scale")
        return np.multiply(quantized[rows], scale[rows], dtype=np.float32)

    def head(self, rows: slice) -> Floats:
        """Rows of lm_head, float32 [n, K], which are columns of a matrix in int8, or in blocks of 8 bits."""
        quantized, scale = self.whole(f"{HEAD}_quantized"), self.whole(f"{HEAD}_scale")
        if quantized.ndim == 2:
            return np.multiply(quantized[:, rows].T, scale[rows, None], dtype=np.float32)
        channels = self.tensor(f"{EMBEDDING}_quantized").shape[1]
        levels = quantized[rows].astype(np.float32) - MIDDLE
        blocks: Floats = levels * scale.reshape(len(scale), -1)[rows, :, None]
        return blocks.reshape(len(blocks), -1)[:, :channels]
