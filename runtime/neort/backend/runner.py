"""Runs decoder.onnx with onnxruntime, straight on the cache.

Knows tensors and slots; knows nothing about requests, sampling or text.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ..bundle import Bundle
from ..kvcache import CacheType, KVCache, Rows, bind_buffer, bind_past, first_row
from .checks import split_below
from .inputs import RunInputs, needs_dummy
from .session import Configure, decoder_file, open_decoder
from .threads import available_cpus

__all__ = ["DecoderSession"]

Ids = NDArray[np.int64]
Logits = NDArray[np.float32]


class DecoderSession:
    """A loaded model and the cache of the sequences that it is decoding.

    Not thread-safe: the engine holds a lock around it.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        num_threads: int | None = None,
        max_batch_size: int = 8,
        packed_weights: Path | None = None,
        kv_cache: CacheType = "fp32",
        configure: Configure | None = None,
    ) -> None:
        """Load the graph; weights are memory-mapped and packed by onnxruntime.

        ``num_threads`` None means all CPUs that the process may use; ``packed_weights`` is a folder in which packed
        weights are kept, so that processes share them (see `packed_weights`); ``kv_cache`` is the cache's element type.

        ``configure`` is called with the onnxruntime.SessionOptions before the graph is opened, and may change them:

            def profile(options):
                options.enable_profiling = True

            session = DecoderSession(bundle, configure=profile)
            ...
            session.inference_session.end_profiling()

        Raises BundleError when onnxruntime refuses the graph, and when the bundle has none for an int8 cache;
        UnsupportedError when onnxruntime computes attention wrongly, or is too old for an int8 cache; StorageError
        when the folder cannot be written.
        """
        self.spec = bundle.spec
        self.num_threads = num_threads or available_cpus()
        self.max_batch_size = max_batch_size
        file = decoder_file(bundle, kv_cache)
        self._session = open_decoder(bundle, file, self.num_threads, packed_weights, configure)
        self._split_below = split_below(self.num_threads, bundle.spec)
        self._spare = int(self._split_below > 1)  # a slot behind the last one, for a dummy
        self._cache = KVCache(bundle.spec, max_batch_size + self._spare, kv_cache)
        self._model_hash = bundle.model_hash(file.name)
        self._local = [i for i, kind in enumerate(self.spec.attention_layers) if kind == "local"]
        self._steps: dict[tuple[int, int, bool], _Step] = {}

    @property
    def inference_session(self) -> ort.InferenceSession:
        """The graph in onnxruntime, for profiling. Its runs need this session's bindings: do not run it."""
        return self._session

    def reserve(self, slots: int, lengths: list[int]) -> None:
        """Make room for ``slots`` sequences; slot i keeps its first ``lengths[i]`` positions."""
        if self._cache.reserve(slots + self._spare, lengths):
            self._steps.clear()

    def move(self, source: int, target: int, length: int) -> None:
        """Let the sequence of one slot continue in another."""
        self._cache.move(source, target, length)

    @property
    def bytes_per_position(self) -> int:
        """Cache memory that one position of one sequence takes, in all layers."""
        return self._cache.bytes_per_position

    def release(self, slot: int) -> None:
        """Give the memory of a slot that no sequence uses back to the system."""
        self._cache.release(slot)

    @property
    def prefix_step(self) -> int | None:
        """See `prefix_cache.RowStore`: attention over other numbers of rows may add up in another order, unless the
        cache is int8.
        """
        return 1 if self._cache.kv_cache == "int8" else None

    @property
    def model_hash(self) -> str:
        """Tells the graph, the cache's scales and the weights from others."""
        return self._model_hash

    @property
    def row_types(self) -> dict[str, np.dtype[Any]]:
        """The dtype of each cache buffer, by its name."""
        return self._cache.row_types

    def read(self, slot: int, start: int, stop: int) -> Rows:
        """A copy of positions ``start`` to ``stop`` of a slot: per buffer [H, stop - start, D], of its dtype."""
        return self._cache.read(slot, start, stop)

    def write(self, slot: int, start: int, rows: Rows) -> None:
        """Overwrite the positions of a slot from ``start`` on with what `read` returned."""
        self._cache.write(slot, start, rows)

    def prefill(self, slot: int, token_ids: Ids, start: int, keep: int) -> Logits:
        """Append ``token_ids`` [S] to a slot that holds ``start`` positions.

        Returns the logits of the last ``keep`` positions, float32 [keep, V], 0 <= keep <= S.
        """
        ids, lengths = token_ids[None], np.array([start], np.int32)
        first = first_row(self.spec, start, self._cache.kv_cache)
        dummy = needs_dummy(len(token_ids), lengths, self._split_below)
        inputs = RunInputs(1, len(token_ids), keep, dummy=dummy)
        inputs.fill(ids, lengths, first)
        slots = slice(slot, slot + 1 + dummy)
        binding = self._bind(inputs, slots)
        self._bind_local(binding, slots, first)
        binding.bind_output("logits", "cpu")
        with self._cache.untouched(slot + 1, first) if dummy else contextlib.nullcontext():
            self._session.run_with_iobinding(binding)
        logits: Logits = binding.get_outputs()[-1].numpy()[0]
        return logits

    def decode(self, token_ids: Ids, lengths: NDArray[np.int32]) -> Logits:
        """Append one token to each of the first n slots, which hold ``lengths`` [n] positions; slot n may lose its own.

        Returns the next token's logits, float32 [n, V]; the array is overwritten by the next call.
        """
        return self._step(token_ids[:, None], lengths)[:, 0]

    def verify(self, token_ids: Ids, start: int) -> Logits:
        """Append a few tokens [S] to the first slot, which holds ``start`` positions.

        Returns the logits behind each of them, float32 [S, V]; the array is overwritten by the next call. Unlike
        `prefill` it keeps what it has bound, for every S, which on small models is half of its time.
        """
        logits: Logits = self._step(token_ids[None], np.array([start], np.int32))[0]
        return logits

    def _step(self, token_ids: Ids, lengths: NDArray[np.int32]) -> Logits:
        """Append tokens [B, S] to the first B slots; logits of all, float32 [B, S, V]."""
        count, rows = token_ids.shape
        dummy = needs_dummy(rows, lengths, self._split_below)
        slots = slice(0, count + dummy)
        step = self._steps.get((count, rows, dummy))
        if step is None:
            step = self._steps[count, rows, dummy] = _Step(count, rows, self.spec.vocab_size, dummy=dummy)
            step.binding = self._bind(step.inputs, slots)
            bind_buffer(step.binding.bind_output, "logits", step.logits)
        first = first_row(self.spec, int(lengths.min()), self._cache.kv_cache)
        if first != step.first:
            self._bind_local(step.binding, slots, first)
            step.first = first
            if dummy:  # whose rows would pile up: each is on another page of memory
                self._cache.release(count)
        step.inputs.fill(token_ids, lengths, first)
        self._session.run_with_iobinding(step.binding)
        return step.logits[:count]

    def _bind(self, inputs: RunInputs, slots: slice) -> Any:
        """A binding of ``inputs`` and of the slots' cache, whose memory is past and present at once."""
        binding = self._session.io_binding()
        for name, array in inputs.feeds.items():
            bind_buffer(binding.bind_input, name, array)
        for name, buffer in self._cache.buffers.items():
            bind_past(binding, name, buffer[slots], 0)
        return binding

    def _bind_local(self, binding: Any, slots: slice, first: int) -> None:
        """Let the past of local layers begin at row ``first``."""
        for layer in self._local:
            for name in (f"{layer}.key", f"{layer}.value"):
                bind_past(binding, name, self._cache.buffers[name][slots], first)


class _Step:
    """The persistent inputs and outputs of runs that append ``rows`` tokens to each of ``count`` sequences."""

    def __init__(self, count: int, rows: int, vocab_size: int, *, dummy: bool) -> None:
        self.inputs = RunInputs(count, rows, rows, dummy=dummy)
        self.logits = np.zeros((count + dummy, rows, vocab_size), np.float32)
        self.first = 0  # row at which the past of local layers begins
        self.binding: Any = None
