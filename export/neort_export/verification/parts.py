"""Runs one part of a decoder graph, the embedding, a layer or the head, for all recorded calls."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neort.backend import DetachedSession, bind_buffer, bind_past, first_row
from neort.bundle import ModelSpec, graph_names
from neort.kvcache import CacheType, KVCache

from ..graph import INPUT_IDS, Segment
from ..memory import return_freed
from .calls import Call, Run, groups

__all__ = ["SLOTS", "PartRunner", "Watch"]

Floats = NDArray[np.float32]

Watch = Callable[[str, Floats], object]  # gets the name of a cache, such as "0.key", and new rows of it, [H, S, D]

SLOTS = 8


@dataclass(frozen=True)
class PartRunner:
    """Runs parts of a graph on ``num_threads`` threads; ``watch`` gets what every run stores in the cache."""

    spec: ModelSpec
    kv_cache: CacheType
    num_threads: int
    watch: Watch | None = None

    def run_embedding(self, embedding: Segment, calls: Sequence[Call]) -> list[Floats]:
        """Return the embedded tokens of each call, [tokens, K]; only the rows of these tokens are read."""
        runs = [call.inputs() if isinstance(call, Run) else {} for call in calls]
        known = np.unique(np.concatenate([run[INPUT_IDS].reshape(-1) for run in runs if run]))
        few = embedding.for_tokens(known)
        session = self._open(few)
        nothing = np.empty((0, 0), np.float32)
        for run in runs:
            if run:
                run[INPUT_IDS] = np.searchsorted(known, run[INPUT_IDS])
        return [_run_rows(session, few, run, nothing) if run else nothing for run in runs]

    def run_layer(self, layer: Segment, calls: Sequence[Call], hidden: Sequence[Floats]) -> list[Floats]:
        """Return a layer's output for each call, [tokens, K], of its ``hidden`` states [tokens, K]."""
        session = self._open(layer)
        kind = self.spec.attention_layers[layer.layer]
        cache = KVCache(replace(self.spec, num_layers=1, attention_layers=(kind,)), SLOTS + 1, self.kv_cache)
        cache.reserve(max((call.stop_slot + 1 for call in calls if isinstance(call, Run)), default=1), [])
        outputs = []
        for call, rows in zip(calls, hidden, strict=True):
            if isinstance(call, Run):
                outputs.append(_run_cached(session, layer, call, rows, cache))
                if self.watch:
                    _show(self.watch, layer, call, cache)
            else:
                cache.move(call.source, call.target, call.length)
                outputs.append(rows)
        return outputs

    def run_head(self, head: Segment, calls: Sequence[Call], hidden: Sequence[Floats]) -> Iterator[Floats]:
        """Yield the logits of each call, [n, V]; only those of a group of calls are in memory."""
        pieces = head.pieces()
        only = self._open(pieces[0][0]) if len(pieces) == 1 else None
        for group in groups(calls):
            logits = [np.empty((calls[i].logit_count, self.spec.vocab_size), np.float32) for i in group]
            for piece, columns in pieces:
                session = only or self._open(piece)
                for out, i in zip(logits, group, strict=True):
                    call = calls[i]
                    if isinstance(call, Run) and len(out):
                        rows = _run_rows(session, piece, call.inputs(), hidden[i])
                        out[:, columns] = rows[: len(out)]
                del session  # before the next one is read
            return_freed()
            while logits:
                yield logits.pop(0)

    def _open(self, segment: Segment) -> DetachedSession:
        model, weights = segment.detached()
        return DetachedSession(model, weights, self.num_threads)


def _run_rows(session: DetachedSession, segment: Segment, inputs: dict[str, NDArray[Any]], hidden: Floats) -> Floats:
    available = inputs | {segment.hidden: hidden}
    return session.run(segment.output, {name: available[name] for name in segment.inputs})


def _run_cached(session: DetachedSession, layer: Segment, call: Run, hidden: Floats, cache: KVCache) -> Floats:
    """The output of a layer for one call, its cache updated in place."""
    binding = session.io_binding()
    first = first_row(cache.spec, int(call.lengths.min()), cache.kv_cache)
    feeds = call.inputs(first) | {layer.hidden: hidden}
    out = np.empty_like(hidden)
    for name in layer.inputs:
        if name in feeds:
            bind_buffer(binding.bind_input, name, feeds[name])
    is_local = cache.spec.attention_layers == ("local",)
    for own, part in zip(graph_names.layer_parts(0), graph_names.layer_parts(layer.layer), strict=True):
        slots = cache.buffers[own][call.slot : call.stop_slot + call.dummy]
        bind_past(binding, part, slots, first if is_local else 0)
    bind_buffer(binding.bind_output, layer.output, out)
    with cache.untouched(call.stop_slot, first) if call.dummy else contextlib.nullcontext():
        session.run_bound(binding)
    return out


def _show(watch: Watch, layer: Segment, call: Run, cache: KVCache) -> None:
    """Tell what a call has stored."""
    for i, start in enumerate(call.lengths.tolist()):
        for name, rows in cache.read(call.slot + i, start, start + call.token_ids.shape[1]).items():
            watch(f"{layer.layer}.{name.partition('.')[2]}", rows)
