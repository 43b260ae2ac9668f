"""Whether a graph computes the function that torch computes: part by part, by what rounding cannot do.

Logits tell little about that. In a model whose errors grow from layer to layer, or whose attention picks single keys,
float32 rounding alone moves them by more than a window that is one key too wide moves those of a calm one. So each part
of the graph (the embedding, each layer, the head) gets torch's own input, and its output is compared with the same part
of torch in float64, channel by channel in units of torch's own float32 error there. Rounding stays within a few dozen
units in every model tried; another window, scale, kind of layer or bias is thousands of units away and more
(`benchmarks/exporter/grades.py`).

A quantized graph gets the same inputs. What its parts lose is told as a share of what they add: rounding weights and
activations loses a few percent of it, half of it in 4 bits where attention picks single keys at random; weights of
another checkpoint lose more than there is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from neort.bundle import ModelSpec
from neort.runner import ModelRunner
from neort.verification import largest, window_to_pass

from ..errors import VerificationError
from ..graph import nodes
from ..progress import Progress
from ..reference import PartAnswer
from .layerwise import LayerwiseRunner

__all__ = ["COMPARED_LOGITS", "LIMIT", "Structure", "check_attention", "compared_tokens", "measure_structure"]

Ids = NDArray[np.int64]
Floats = NDArray[np.float32]

LIMIT = 200.0  # units of torch's float32 error
LOSS_LIMIT = 1.0  # of what a part of a quantized graph adds
BEYOND_WINDOW = 64  # tokens past the window's edge: more of them cost time in float64 and show nothing new
ODD_CHUNK, SINGLES = 37, 8  # the last tokens come in a chunk and one by one, after a past
COMPARED_LOGITS = ODD_CHUNK + SINGLES
FLOAT32_STEP = 2.0**-24  # relative rounding error of a float32
REPORT = "Please report it, with config.json and the releases of torch, transformers and onnxruntime"
ATTENTION = ("num_heads", "kv_num_heads", "scale", "local_window_size", "do_rotary")


@dataclass(frozen=True)
class Structure:
    """How far each part of a graph is from torch's float64: the embedding, each layer and the head.

    ``errors`` are those of the fp32 graph in units of torch's own float32 error: the root mean square over a token's
    channels, of the token for which it is largest. ``losses`` are those of the quantized graph, if there is one: the
    root mean square of the error over that of what the part adds to its input.
    """

    tokens: int
    errors: tuple[float, ...]
    losses: tuple[float, ...] = ()

    @property
    def largest(self) -> float:
        """The error of the part that is furthest off."""
        return largest(self.errors)

    @property
    def largest_loss(self) -> float:
        """The loss of the part that loses most; 0 where nothing is quantized."""
        return largest(self.losses)

    def check(self, spec: ModelSpec, remedy: str = REPORT) -> None:
        """Raise VerificationError, which ends in ``remedy``, for a part that rounding cannot explain."""
        if not self.largest <= LIMIT:
            raise VerificationError(
                f"{_name(_place(self.errors), spec)} of the graph is {self.largest:.3g} times as far from "
                f"torch's float64 as torch's own float32 is (rounding stays below {LIMIT:g}): it computes another "
                f"function than the checkpoint. {remedy}"
            )
        if not self.largest_loss <= LOSS_LIMIT:
            raise VerificationError(
                f"{_name(_place(self.losses), spec)} of the quantized graph loses "
                f"{self.largest_loss:.0%} of what torch computes there (rounding loses at most {LOSS_LIMIT:.0%}): it "
                f"computes another function than the checkpoint. {remedy}"
            )

    def to_json(self) -> dict[str, Any]:
        """The figures, for verification.json."""
        figures = {"tokens": self.tokens, "largest_error": self.largest, "limit": LIMIT, "errors": list(self.errors)}
        return figures | ({"losses": list(self.losses), "loss_limit": LOSS_LIMIT} if self.losses else {})


def compared_tokens(token_ids: Sequence[int], spec: ModelSpec) -> list[int]:
    """Return the start of a text, past the window's edge."""
    return list(token_ids[: window_to_pass(spec) + BEYOND_WINDOW])


def measure_structure(
    answers: Iterable[PartAnswer],
    graph: ir.Model,
    spec: ModelSpec,
    token_ids: Sequence[int],
    progress: Progress,
    quantized: ir.Model | None = None,
) -> Structure:
    """Run an fp32 decoder graph on some tokens, part by part, each on torch's input, and the quantized one beside it.

    ``answers`` are torch's for the same tokens, `Reference.parts` with ``last`` COMPARED_LOGITS.
    """
    ids = np.asarray(token_ids, np.int64)
    parts = [_Parts(model, spec, ids) for model in (graph, quantized) if model is not None]
    progress.stage("comparing each layer with torch", parts[0].nbytes)
    errors, losses = [], []
    for index, answer in enumerate(answers):
        outputs = [own.run(index, answer.hidden) for own in parts]
        errors.append(_largest_error(outputs[0], answer))
        losses += [_loss(output, answer) for output in outputs[1:]]
        progress.advance(answer.nbytes)
    return Structure(len(ids), tuple(errors), tuple(losses))


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


class _Parts:
    """The parts of a graph on some tokens: as a prompt, a chunk after it and single tokens."""

    def __init__(self, graph: ir.Model, spec: ModelSpec, token_ids: Ids) -> None:
        self._sizes = _sizes(len(token_ids))
        self._rows = self._sizes  # of the hidden states of each piece, of which a graph may append one
        self._runner = LayerwiseRunner(graph, spec)
        self._runner.record(partial(self._prefill, token_ids))
        self.nbytes = self._runner.nbytes

    def run(self, index: int, hidden: Floats) -> Floats:
        """The output of a part for its input [T, K]; that of the head for the last COMPARED_LOGITS tokens at most."""
        pieces = np.split(hidden, np.cumsum(self._sizes)[:-1]) if index else []
        padded = [np.pad(piece, ((0, n - len(piece)), (0, 0))) for piece, n in zip(pieces, self._rows, strict=False)]
        outputs = self._runner.run_part(index, padded)
        if index == 0:
            self._rows = [len(output) for output in outputs]
        return np.concatenate([output[:size] for output, size in zip(outputs, self._sizes, strict=True)])

    def _prefill(self, token_ids: Ids, runner: ModelRunner) -> None:
        """The pieces, with logits for all but the prompt."""
        start = 0
        for size in self._sizes:
            keep = size if start or size == len(token_ids) else 0
            runner.prefill(0, token_ids[start : start + size], start, keep)
            start += size


def _sizes(count: int) -> list[int]:
    """Lengths of the pieces; a text too short for all of them comes as one."""
    prompt = count - COMPARED_LOGITS
    return [prompt, ODD_CHUNK] + [1] * SINGLES if prompt > 0 else [count]


def _largest_error(actual: Floats, answer: PartAnswer) -> float:
    """The largest error of a token, see `Structure`; infinite where the graph computes no finite numbers."""
    difference = np.abs(actual - answer.exact)
    least = FLOAT32_STEP * np.sqrt(np.square(answer.exact).mean(axis=0))
    unit = np.maximum(answer.rounding, least)
    with np.errstate(divide="ignore", invalid="ignore"):
        units = np.where(difference == 0, 0, difference / unit)  # a channel that is always 0 has no unit
        error = np.sqrt(np.square(units).mean(axis=1)).max()
    return float(error) if np.isfinite(error) else float("inf")


def _loss(actual: Floats, answer: PartAnswer) -> float:
    """The error of a quantized part over what it adds: a layer to its input, the others to nothing."""
    added = answer.exact - answer.hidden if answer.hidden.shape == answer.exact.shape else answer.exact
    error, size = (float(np.sqrt(np.square(x).mean())) for x in (actual - answer.exact, added))
    least = FLOAT32_STEP * float(np.sqrt(np.square(answer.exact).mean()))
    loss = error / max(size, least) if error else 0.0
    return loss if np.isfinite([loss, size, least]).all() else float("inf")


def _place(figures: Sequence[float]) -> int:
    """Where the largest figure is, or the first NaN."""
    return max(range(len(figures)), key=lambda i: math.inf if math.isnan(figures[i]) else figures[i])


def _name(index: int, spec: ModelSpec) -> str:
    if index == 0:
        return "the embedding"
    return f"layer {index - 1} ({spec.attention_layers[index - 1]})" if index <= spec.num_layers else "the head"
