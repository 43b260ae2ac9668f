"""Runs a decoder graph one layer at a time, so that measuring a model takes no more memory than its largest layer.

The graph is cut where the hidden states pass from layer to layer. The nodes, their order and the weights are those of
the whole graph, and so are its logits, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from neort.arrays import Rows
from neort.backend import available_cpus, common_rows, needs_dummy, own_rows, split_below
from neort.bundle import ModelSpec
from neort.kvcache import CacheType
from neort.runner import ModelRunner

from ..errors import ExportError
from ..graph import cache_type, cut, keeps_own_rows
from ..memory import return_freed
from .calls import Call, Move, Run
from .parts import SLOTS, PartRunner, Watch

__all__ = ["LayerwiseRunner"]

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]


class LayerwiseRunner:
    """A ModelRunner whose users tell beforehand what they will ask.

    What a measurement feeds to a model does not depend on the model's answers. So each of its functions runs twice:
    in ``record`` all logits are zero and only the calls are noted; ``run`` then takes all calls through layer after
    layer; when the functions run again, in the same order, their calls are replayed: they get their logits.
    """

    def __init__(self, model: ir.Model, spec: ModelSpec, watch: Watch | None = None) -> None:
        """``watch`` gets what every run stores in the cache."""
        self.spec = spec
        threads = available_cpus()
        kv_cache: CacheType = "int8" if cache_type(model) == ir.DataType.INT8 else "fp32"
        self._parts = PartRunner(spec, kv_cache, threads, watch)
        self._split_below = split_below(threads, spec)
        self._segments = cut(model, spec.num_layers)
        self._keeps_own_rows = keeps_own_rows(model)
        self._calls: list[Call] = []
        self._answers: Iterator[Floats] | None = None
        self._next = 0

    @property
    def max_batch_size(self) -> int:
        """The number of sequences that can be decoded together."""
        return SLOTS

    @property
    def nbytes(self) -> int:
        """Bytes of weights that ``run`` will load."""
        return sum(segment.nbytes for segment in self._segments)

    def record(self, function: Callable[[ModelRunner], object]) -> None:
        """Note the calls of ``function``, which must make the same ones when it is called again."""
        function(self)

    def run(self, progress: Callable[[int], object] = lambda _: None) -> None:
        """Compute the answers to all recorded calls; ``progress`` gets the bytes of each part that was run."""
        embedding, *layers, head = self._segments
        hidden = self._parts.run_embedding(embedding, self._calls)
        progress(embedding.nbytes)
        for layer in layers:
            hidden = self._parts.run_layer(layer, self._calls, hidden)
            progress(layer.nbytes)
            return_freed()
        self._answers = self._parts.run_head(head, self._calls, hidden)
        self._next = 0
        progress(head.nbytes)

    def run_part(self, index: int, hidden: Sequence[Floats]) -> list[Floats]:
        """Compute one part of the graph for all recorded calls, whatever the parts before it would compute.

        Part 0 is the embedding, then come the layers and the head; ``hidden`` is each call's input, [tokens, K], which
        the embedding does without. Returns each call's output, [tokens, K], of the head [n, V].
        """
        part = self._segments[index]
        if index == 0:
            return self._parts.run_embedding(part, self._calls)
        if index <= self.spec.num_layers:
            return self._parts.run_layer(part, self._calls, hidden)
        return list(self._parts.run_head(part, self._calls, hidden))

    # What a ModelRunner does

    bytes_per_position = 0  # no engine needs to ration a cache that lives for one layer's runs
    prefix_granularity = None

    def reserve(self, slots: int, lengths: list[int]) -> None:
        """There is always room."""

    def release(self, slot: int) -> None:
        """Nothing to do: no cache outlives its layer."""

    def read(self, slot: int, start: int, stop: int) -> Rows:
        """Raises NotImplementedError: no rows of all layers are in memory at once; ``watch`` sees them pass."""
        raise NotImplementedError

    def write(self, slot: int, start: int, rows: Rows) -> None:
        """Raises NotImplementedError, as `read`."""
        raise NotImplementedError

    def move(self, source: int, target: int, length: int, start: int = 0) -> None:
        """Let the sequence of one slot continue in another; all of it is copied."""
        self._take(Move(source, target, length))

    def prefill(self, slot: int, token_ids: Ids, start: int, logits_to_keep: int) -> Floats:
        """As DecoderSession.prefill."""
        return self._run(slot, np.array(token_ids, np.int64)[None], np.array([start], np.int32), logits_to_keep)

    def prefill_prompts(self, slot: int, prompts: Sequence[Ids], logits_to_keep: int) -> Floats:
        """As DecoderSession.prefill_prompts, for prompts of which one has two tokens or more."""
        ends = tuple(len(prompt) for prompt in prompts)
        token_ids = np.zeros((len(ends), max(ends)), np.int64)
        for row, prompt in zip(token_ids, prompts, strict=True):
            row[: len(prompt)] = prompt
        rows = logits_to_keep if self._keeps_own_rows else common_rows(prompts, logits_to_keep)
        logits = self._take(Run(slot, token_ids, np.zeros(len(ends), np.int32), rows, dummy=False, ends=ends))
        by_prompt = logits.reshape(len(ends), rows, -1)
        return by_prompt if self._keeps_own_rows else own_rows(by_prompt, prompts, logits_to_keep)

    def decode(self, token_ids: Ids, lengths: NDArray[np.int32]) -> Floats:
        """As DecoderSession.decode."""
        return self._run(0, np.array(token_ids, np.int64)[:, None], np.array(lengths, np.int32), 1)

    def extend(self, token_ids: Ids, start: int) -> Floats:
        """As DecoderSession.extend."""
        return self.prefill(0, token_ids, start, len(token_ids))

    def _run(self, slot: int, token_ids: Ids, lengths: NDArray[np.int32], logits_to_keep: int) -> Floats:
        dummy = needs_dummy(token_ids.shape[1], lengths, self._split_below)
        return self._take(Run(slot, token_ids, lengths, logits_to_keep, dummy))

    def _take(self, call: Call) -> Floats:
        if self._answers is None:
            self._calls.append(call)
            return np.broadcast_to(np.float32(0), (call.logit_count, self.spec.vocab_size))
        if self._next >= len(self._calls) or not self._calls[self._next].same(call):
            raise ExportError("a measurement asked for other logits than it had recorded; please report this")
        self._next += 1
        return next(self._answers)
