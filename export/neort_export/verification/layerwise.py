"""Runs a decoder graph one block at a time, so that verifying a model takes no more memory than its largest block.

The graph is cut where the hidden states pass from block to block. The nodes, their order and the weights are those of
the whole graph, and so are its logits, bit for bit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray

from neort.arrays import Rows
from neort.backend import (
    RunInputs,
    available_cpus,
    bind_buffer,
    bind_past,
    first_row,
    needs_dummy,
    open_session,
    session_options,
    split_below,
)
from neort.bundle import ModelSpec
from neort.kvcache import CacheType, KVCache
from neort.runner import ModelRunner

from ..errors import ExportError
from ..graph import Segment, cut
from ..memory import return_freed

__all__ = ["LayerwiseRunner"]

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

Watch = Callable[[str, Floats], object]  # gets the name of a cache, such as "0.key", and new rows of it, [H, S, D]

SLOTS = 8
GROUP_ROWS = 256  # rows of logits in memory at a time


@dataclass(frozen=True)
class _Run:
    """One run of the graph: tokens [B, S] behind ``lengths`` [B] cached positions of the slots from ``slot`` on."""

    slot: int
    token_ids: Ids
    lengths: NDArray[np.int32]
    logits_to_keep: int
    dummy: bool

    def inputs(self, first: int = 0) -> dict[str, NDArray[Any]]:
        """The graph's inputs, where the past of local layers begins at row ``first``."""
        count, rows = self.token_ids.shape
        inputs = RunInputs(count, rows, self.logits_to_keep, dummy=self.dummy)
        inputs.fill(self.token_ids, self.lengths, first)
        return inputs.feeds

    def same(self, other: _Step) -> bool:
        return (
            isinstance(other, _Run)
            and (self.slot, self.logits_to_keep) == (other.slot, other.logits_to_keep)
            and np.array_equal(self.token_ids, other.token_ids)
            and np.array_equal(self.lengths, other.lengths)
        )


@dataclass(frozen=True)
class _Move:
    """The sequence of one slot continues in another."""

    source: int
    target: int
    length: int

    def same(self, other: _Step) -> bool:
        return self == other


_Step = _Run | _Move


class LayerwiseRunner:
    """A ModelRunner whose users tell beforehand what they will ask.

    What a verification feeds to a model does not depend on the model's answers. So each of its functions runs twice:
    in ``rehearse`` all logits are zero and only the steps are noted; ``run`` then takes all steps through block after
    block; when the functions run again, in the same order, they get their logits.
    """

    def __init__(self, model: ir.Model, spec: ModelSpec, watch: Watch | None = None) -> None:
        """``watch`` gets what every run stores in the cache."""
        self.spec = spec
        self._kv_cache: CacheType = "int8" if _cache_type(model) == ir.DataType.INT8 else "fp32"
        self._watch = watch
        self._split_below = split_below(available_cpus(), spec)
        self._segments = cut(model, spec.num_layers)
        self._steps: list[_Step] = []
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

    bytes_per_position = 0  # no engine needs to ration a cache that lives for one block's runs
    prefix_granularity = None

    def release(self, slot: int) -> None:
        """Nothing to do: no cache outlives its block."""

    def read(self, slot: int, start: int, stop: int) -> Rows:
        """Raises NotImplementedError: no rows of all blocks are in memory at once; ``watch`` sees them pass."""
        raise NotImplementedError

    def write(self, slot: int, start: int, rows: Rows) -> None:
        """Raises NotImplementedError, as `read`."""
        raise NotImplementedError

    def rehearse(self, function: Callable[[ModelRunner], object]) -> None:
        """Note the steps of ``function``, which must take the same ones when it is called again."""
        function(self)

    def run(self, progress: Callable[[int], object] = lambda _: None) -> None:
        """Compute the answers to all rehearsed steps; ``progress`` gets the bytes of each block that was run."""
        embedding, *blocks, head = self._segments
        hidden = self._run_embedding(embedding)
        progress(embedding.nbytes)
        for block in blocks:
            hidden = self._run_block(block, hidden)
            progress(block.nbytes)
            return_freed()
        self._answers = self._run_head(head, hidden)
        self._next = 0
        progress(head.nbytes)

    def run_part(self, index: int, hidden: list[Floats]) -> list[Floats]:
        """The outputs of one part of the graph for all rehearsed steps, whatever the parts before it would compute.

        Part 0 is the embedding, then come the blocks and the head; ``hidden`` is each step's input, [tokens, K], which
        the embedding does without.
        """
        part = self._segments[index]
        if index == 0:
            return self._run_embedding(part)
        if index <= self.spec.num_layers:
            return self._run_block(part, hidden)
        return list(self._run_head(part, hidden))

    def reserve(self, slots: int, lengths: list[int]) -> None:
        """There is always room."""

    def move(self, source: int, target: int, length: int) -> None:
        """Let the sequence of one slot continue in another."""
        self._take(_Move(source, target, length))

    def prefill(self, slot: int, token_ids: Ids, start: int, logits_to_keep: int) -> Floats:
        """As DecoderSession.prefill."""
        return self._run(slot, np.array(token_ids, np.int64)[None], np.array([start], np.int32), logits_to_keep)

    def decode(self, token_ids: Ids, lengths: NDArray[np.int32]) -> Floats:
        """As DecoderSession.decode."""
        return self._run(0, np.array(token_ids, np.int64)[:, None], np.array(lengths, np.int32), 1)

    def extend(self, token_ids: Ids, start: int) -> Floats:
        """As DecoderSession.extend."""
        return self.prefill(0, token_ids, start, len(token_ids))

    def _run(self, slot: int, token_ids: Ids, lengths: NDArray[np.int32], logits_to_keep: int) -> Floats:
        dummy = needs_dummy(token_ids.shape[1], lengths, self._split_below)
        return self._take(_Run(slot, token_ids, lengths, logits_to_keep, dummy))

    def _take(self, step: _Step) -> Floats:
        if self._answers is None:
            self._steps.append(step)
            rows = step.logits_to_keep * len(step.token_ids) if isinstance(step, _Run) else 0
            return np.broadcast_to(np.float32(0), (rows, self.spec.vocab_size))
        if self._next >= len(self._steps) or not self._steps[self._next].same(step):
            raise ExportError("a verification asked for other logits than it had rehearsed; please report this")
        self._next += 1
        return next(self._answers)

    def _run_embedding(self, embedding: Segment) -> list[Floats]:
        runs = [step.inputs() if isinstance(step, _Run) else {} for step in self._steps]
        known = np.unique(np.concatenate([run["input_ids"].reshape(-1) for run in runs if run]))
        few = embedding.for_tokens(known)
        loaded = _Loaded(few)
        nothing = np.empty((0, 0), np.float32)
        for run in runs:
            if run:
                run["input_ids"] = np.searchsorted(known, run["input_ids"])
        return [_run_rows(loaded.session, few, run, nothing) if run else nothing for run in runs]

    def _run_block(self, block: Segment, hidden: list[Floats]) -> list[Floats]:
        loaded = _Loaded(block)
        kind = self.spec.attention_layers[block.layer]
        cache = KVCache(replace(self.spec, num_layers=1, attention_layers=(kind,)), SLOTS + 1, self._kv_cache)
        cache.reserve(max((s.slot + len(s.token_ids) + 1 for s in self._steps if isinstance(s, _Run)), default=1), [])
        outputs = []
        for step, rows in zip(self._steps, hidden, strict=True):
            if isinstance(step, _Move):
                cache.move(step.source, step.target, step.length)
                outputs.append(rows)
            else:
                outputs.append(_run_cached(loaded.session, block, step, rows, cache))
                if self._watch:
                    _show(self._watch, block, step, cache)
        return outputs

    def _run_head(self, head: Segment, hidden: list[Floats]) -> Iterator[Floats]:
        """The logits of each step; only those of a group of steps are in memory."""
        pieces = head.pieces()
        only = _Loaded(pieces[0][0]) if len(pieces) == 1 else None
        for group in _groups(self._steps):
            logits = [np.empty((_rows(self._steps[i]), self.spec.vocab_size), np.float32) for i in group]
            for piece, columns in pieces:
                loaded = only or _Loaded(piece)
                for out, i in zip(logits, group, strict=True):
                    step = self._steps[i]
                    if isinstance(step, _Run) and len(out):
                        rows = _run_rows(loaded.session, piece, step.inputs(), hidden[i])
                        out[:, columns] = rows[: len(out)]
                del loaded  # before the next one is read
            return_freed()
            while logits:
                yield logits.pop(0)


def _rows(step: _Step) -> int:
    return step.logits_to_keep * len(step.token_ids) if isinstance(step, _Run) else 0


def _groups(steps: Sequence[_Step]) -> Iterator[list[int]]:
    """Indices of consecutive steps with about GROUP_ROWS rows of logits."""
    group: list[int] = []
    rows = 0
    for i, step in enumerate(steps):
        if group and rows + _rows(step) > GROUP_ROWS:
            yield group
            group, rows = [], 0
        group.append(i)
        rows += _rows(step)
    if group:
        yield group


def _run_rows(session: Any, segment: Segment, inputs: dict[str, NDArray[Any]], hidden: Floats) -> Floats:
    available = inputs | {segment.hidden: hidden}
    rows: Floats = session.run([segment.output], {name: available[name] for name in segment.inputs})[0]
    return rows


def _run_cached(session: Any, block: Segment, step: _Run, hidden: Floats, cache: KVCache) -> Floats:
    """One step of a block, its cache updated in place."""
    binding = session.io_binding()
    first = first_row(cache.spec, int(step.lengths.min()), cache.kv_cache)
    feeds = step.inputs(first) | {block.hidden: hidden}
    out = np.empty_like(hidden)
    for name in block.inputs:
        if name in feeds:
            bind_buffer(binding.bind_input, name, feeds[name])
    is_local = cache.spec.attention_layers == ("local",)
    behind = step.slot + len(step.token_ids)
    for kind in ("key", "value"):
        slots = cache.buffers[f"0.{kind}"][step.slot : behind + step.dummy]
        bind_past(binding, f"{block.layer}.{kind}", slots, first if is_local else 0)
    bind_buffer(binding.bind_output, block.output, out)
    with cache.untouched(behind, first) if step.dummy else contextlib.nullcontext():
        session.run_with_iobinding(binding)
    return out


def _show(watch: Watch, block: Segment, step: _Run, cache: KVCache) -> None:
    """Tell what a step has stored."""
    for i, start in enumerate(step.lengths.tolist()):
        for name, rows in cache.read(step.slot + i, start, start + step.token_ids.shape[1]).items():
            watch(f"{block.layer}.{name.partition('.')[2]}", rows)


def _cache_type(model: ir.Model) -> ir.DataType | None:
    """The element type of the graph's past."""
    past = next(value for value in model.graph.inputs if (value.name or "").startswith("past_key_values."))
    return past.dtype


class _Loaded:
    """A segment in onnxruntime, which reads the weights where they lie: they live as long as the session."""

    def __init__(self, segment: Segment) -> None:
        model, self._weights = segment.detached()
        self._values = [ort.OrtValue.ortvalue_from_numpy(array) for array in self._weights.values()]
        options = session_options(available_cpus(), model)
        options.add_external_initializers(list(self._weights), self._values)
        options.enable_cpu_mem_arena = False  # it would keep what the largest step took
        self.session = open_session(model, options)
