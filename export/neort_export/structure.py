"""Whether a graph computes the function that torch computes: part by part, by what rounding cannot do.

Logits tell little about that. In a model whose errors grow from layer to layer, or whose attention picks single keys,
float32 rounding alone moves them by more than a window that is one key too wide moves those of a calm one. So each part
of the graph (the embedding, each block, the head) gets torch's own input, and its output is compared with the same part
of torch in float64, channel by channel in units of torch's own float32 error there. Rounding stays within a few dozen
units in every model tried; another window, scale, kind of layer or bias is ten thousand units away and more
(`benchmarks/grades.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from neort.bundle import ModelSpec
from neort.engine import Runner

from .errors import VerificationError
from .layerwise import LayerwiseRunner
from .passes.graph import nodes
from .progress import Progress
from .reference import PartAnswer

__all__ = ["COMPARED_LOGITS", "LIMIT", "Structure", "check_attention", "compared_tokens", "measure_structure"]

Ids = NDArray[np.int64]
Floats = NDArray[np.float32]

LIMIT = 500.0  # units of torch's float32 error
BEYOND_WINDOW = 64  # tokens past the window's edge: more of them cost time in float64 and show nothing new
ODD_CHUNK, SINGLES = 37, 8  # the last tokens come in a chunk and one by one, behind a past
COMPARED_LOGITS = ODD_CHUNK + SINGLES
FLOAT32_STEP = 2.0**-24  # relative rounding error of a float32
ATTENTION = ("num_heads", "kv_num_heads", "scale", "local_window_size", "do_rotary")


@dataclass(frozen=True)
class Structure:
    """How far each part of a graph is from torch's float64, in units of torch's own float32 error.

    ``errors`` are of the embedding, each block and the head: the root mean square over a token's channels, of the token
    for which it is largest.
    """

    tokens: int
    errors: tuple[float, ...]

    @property
    def largest(self) -> float:
        """The error of the part that is furthest off."""
        return max(self.errors)

    def check(self, spec: ModelSpec) -> None:
        """Raise VerificationError for a part that rounding cannot explain."""
        if self.largest <= LIMIT:
            return
        index = self.errors.index(self.largest)
        raise VerificationError(
            f"{_name(index, spec)} of the exported graph is {self.largest:.3g} times as far from torch's float64 as "
            f"torch's own float32 is (rounding stays below {LIMIT:g}): the graph computes another function than the "
            "checkpoint. Please report it, with config.json and the releases of torch, transformers and onnxruntime"
        )

    def to_json(self) -> dict[str, Any]:
        """The figures, for verification.json."""
        return {"tokens": self.tokens, "largest_error": self.largest, "limit": LIMIT, "errors": list(self.errors)}


def compared_tokens(token_ids: Sequence[int], spec: ModelSpec) -> list[int]:
    """The start of a text, past the window's edge."""
    return list(token_ids[: spec.window_size + BEYOND_WINDOW])


def measure_structure(
    answers: Iterable[PartAnswer], graph: ir.Model, spec: ModelSpec, token_ids: Sequence[int], progress: Progress
) -> Structure:
    """Run an fp32 decoder graph on some tokens, part by part, each on torch's input.

    ``answers`` are torch's for the same tokens, `Reference.parts` with ``last`` COMPARED_LOGITS.
    """
    ids = np.asarray(token_ids, np.int64)
    runner = LayerwiseRunner(graph, spec)
    runner.rehearse(partial(_in_pieces, token_ids=ids))
    progress.stage("comparing each layer with torch", runner.nbytes)
    errors = []
    for index, answer in enumerate(answers):
        actual = np.concatenate(runner.run_part(index, _pieces(answer.hidden)))
        errors.append(_largest_error(actual, answer))
        progress.advance(answer.nbytes)
    return Structure(len(ids), tuple(errors))


def check_attention(graph: ir.Model, checked: ir.Model) -> None:
    """Raise VerificationError unless a graph's attention nodes are those of a graph that was compared with torch."""
    found, expected = ([_attention(node) for node in nodes(g.graph, "GroupQueryAttention")] for g in (graph, checked))
    if found != expected:
        raise VerificationError(
            "the written graph's attention has other windows, heads or scales than the graph that was compared with "
            "torch; export the checkpoint again, and report it if that does not help"
        )


def _attention(node: ir.Node) -> dict[str, Any]:
    return {name: node.attributes[name].value for name in ATTENTION if name in node.attributes}


def _in_pieces(runner: Runner, token_ids: Ids) -> None:
    """The tokens as a prompt, a chunk behind it and single steps; logits of all but the prompt."""
    start = 0
    for size in _sizes(len(token_ids)):
        runner.prefill(0, token_ids[start : start + size], start, size if start or size == len(token_ids) else 0)
        start += size


def _sizes(count: int) -> list[int]:
    """Lengths of the pieces; a text too short for all of them comes as one."""
    prompt = count - COMPARED_LOGITS
    return [prompt, ODD_CHUNK] + [1] * SINGLES if prompt > 0 else [count]


def _pieces(hidden: Floats) -> list[Floats]:
    return np.split(hidden, np.cumsum(_sizes(len(hidden)))[:-1])


def _largest_error(actual: Floats, answer: PartAnswer) -> float:
    """The largest error of a token, see `Structure`; infinite where the graph computes no finite numbers."""
    difference = np.abs(actual - answer.exact)
    least = FLOAT32_STEP * np.sqrt(np.square(answer.exact).mean(axis=0))
    unit = np.maximum(answer.rounding, least)
    with np.errstate(divide="ignore", invalid="ignore"):
        units = np.where(difference == 0, 0, difference / unit)  # a channel that is always 0 has no unit
        error = np.sqrt(np.square(units).mean(axis=1)).max()
    return float(error) if np.isfinite(error) else float("inf")


def _name(index: int, spec: ModelSpec) -> str:
    if index == 0:
        return "the embedding"
    return f"layer {index - 1} ({spec.attention_layers[index - 1]})" if index <= spec.num_layers else "the head"
