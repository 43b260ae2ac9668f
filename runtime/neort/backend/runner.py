"""Runs decoder.onnx with onnxruntime, straight on the cache.

Knows tensors and slots; knows nothing about requests, sampling or text.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from ..arrays import Floats, Ids, Lengths, Logits, Rows
from ..bundle import Bundle, graph_names, read_graph
from ..kvcache import CacheType, KVCache
from ..runner import IDLE
from .checks import split_below
from .forks import keep_for_ever, tell_in_child
from .hidden_states import FinalNorm, final_norm, hidden_values
from .inputs import BoundInputs, RunInputs, common_rows, first_row, needs_dummy, own_rows
from .session import Configure, decoder_file, open_decoder
from .threads import available_cpus

__all__ = ["DecoderSession"]

MOST_NUMBERS = 1 << 25  # in the rows of a run of prompts: 128 MiB


class DecoderSession:
    """A loaded model and the cache of the sequences that it is decoding: a `runner.ModelRunner`.

    Not thread-safe. In a forked child the graph is opened anew, unless it runs on one thread, see `forks`.
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
        self._open = functools.partial(open_decoder, bundle, file, self.num_threads, packed_weights, configure)
        self._session, self._keeps_own_rows = self._open()
        self._reads_together = bundle.prompts_together
        self._inherited = False
        self._read_graph = functools.partial(bundle.read_bytes, file.name)
        self._read_norm = functools.partial(final_norm, bundle)
        self._hidden_values: list[str] = []  # empty as long as the graph does not put them out
        self._final_norm: FinalNorm | None = None
        self._split_below = split_below(self.num_threads, bundle.spec)
        self._spare = int(self._split_below > 1)  # a slot after the last one, for a dummy
        self._cache = KVCache(bundle.spec, max_batch_size + self._spare, kv_cache)
        self._model_hash = bundle.model_hash(file.name)
        self._step_logits = np.zeros((max_batch_size + self._spare, 1, bundle.spec.vocab_size), np.float32)
        self._filled: set[int] = set()  # slots that may hold what somebody needs
        self._bound: dict[tuple[int, int, bool], BoundInputs] = {}
        tell_in_child(self)

    @property
    def inference_session(self) -> ort.InferenceSession:
        """The graph in onnxruntime, for profiling. Its runs need this session's bindings: do not run it."""
        return self._session

    def reserve(self, slots: int, lengths: list[int]) -> None:
        """Make room for ``slots`` sequences; slot i keeps its first ``lengths[i]`` positions.

        Raises OutOfMemoryError when the system refuses the address space; every slot is as it was then.
        """
        if self._inherited:
            self._reopen()
        if slots + self._spare > self._cache.slots:
            self._bound.clear()  # before any buffer moves
            self._cache.reserve(slots + self._spare, lengths)

    def after_fork(self) -> None:
        """See `forks.Inherited`."""
        keep_for_ever(self._session)
        self._inherited = self.num_threads > 1

    def move(self, source: int, target: int, length: int, start: int = 0) -> None:
        """Copy the first ``length`` positions of one slot to another, where the sequence continues.

        Those before ``start`` are the same in both already.
        """
        self._filled.add(target)
        self._cache.move(source, target, length, start)

    @property
    def bytes_per_position(self) -> int:
        """Cache memory that one position of one sequence takes, in all layers."""
        return self._cache.bytes_per_position

    def release(self, slot: int) -> None:
        """Give the memory of a slot that no sequence uses back to the system."""
        self._filled.discard(slot)
        self._cache.release(slot)

    @property
    def prefix_granularity(self) -> int | None:
        """1 for an int8 cache, else None: attention over other numbers of rows may add up in another order.

        See `ModelRunner.prefix_granularity`.
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
        """Return a copy of positions ``start`` to ``stop`` of a slot: per buffer [H, stop - start, D], of its dtype."""
        return self._cache.read(slot, start, stop)

    def write(self, slot: int, start: int, rows: Rows) -> None:
        """Overwrite the positions of a slot from ``start`` on with what `read` returned."""
        self._filled.add(slot)
        self._cache.write(slot, start, rows)

    def prefill(self, slot: int, token_ids: Ids, start: int, logits_to_keep: int) -> Logits:
        """Append ``token_ids``, int64 [S], to a slot that holds ``start`` positions; other slots are left alone.

        Returns the logits of the last ``logits_to_keep`` positions, float32 [logits_to_keep, V], of which there may be
        0 to S.
        """
        logits: Logits = self._run_alone(slot, token_ids, start, logits_to_keep, graph_names.LOGITS)[0]
        return logits

    def prefill_prompts(self, slot: int, prompts: Sequence[Ids], logits_to_keep: int) -> Logits:
        """Begin the slots from ``slot`` on with one prompt each, int64 [T]; other slots are left alone.

        Returns the logits of each one's own last ``logits_to_keep`` positions, float32 [B, logits_to_keep, V]; rows
        before a prompt's first mean nothing. Each prompt gets `prefill`'s bits.
        """
        rows = logits_to_keep if self._keeps_own_rows else common_rows(prompts, logits_to_keep)
        numbers = len(prompts) * rows * self.spec.vocab_size
        if self._one_by_one(prompts) or (numbers > MOST_NUMBERS and not self._keeps_own_rows):
            return _each(prompts, logits_to_keep, lambda i, rows: self.prefill(slot + i, prompts[i], 0, rows))
        logits = self._run_prompts(slot, prompts, rows, graph_names.LOGITS)
        return logits if self._keeps_own_rows else own_rows(logits, prompts, logits_to_keep)

    def hidden_states(self, layer: int, slot: int, token_ids: Ids, start: int, rows_to_keep: int) -> Floats:
        """Append as `prefill` does; returns transformers' hidden_states[``layer``] of the last ``rows_to_keep`` tokens.

        ``layer`` is 0 to num_layers; the result float32 [rows_to_keep, K]. No logits are computed. The first call opens
        the graph anew, with outputs that it lacks in its file: weights are in memory once, later runs give the same
        bits in the same time, but a run of S tokens keeps num_layers * S * K numbers more until it ends. (A session
        beside the first one takes all of the packed weights again; a graph that always has these outputs takes that
        memory from those who never ask.)

        Raises UnsupportedError where they cannot be told, and what opening the graph raises.
        """
        rows = self._run_alone(slot, token_ids, start, 0, self._hidden_value(layer))[: len(token_ids)]
        return self._final(layer, rows[len(token_ids) - rows_to_keep :])

    def hidden_states_of_prompts(self, layer: int, slot: int, prompts: Sequence[Ids], rows_to_keep: int) -> Floats:
        """Begin slots as `prefill_prompts` does; returns `hidden_states` [B, rows_to_keep, K] in the logits' place."""
        if self._one_by_one(prompts):
            return _each(
                prompts, rows_to_keep, lambda i, rows: self.hidden_states(layer, slot + i, prompts[i], 0, rows)
            )
        longest = max(len(prompt) for prompt in prompts)
        rows = self._run_prompts(slot, prompts, 0, self._hidden_value(layer))
        states = rows[: len(prompts) * longest].reshape(len(prompts), longest, -1)
        return self._final(layer, own_rows(states, prompts, rows_to_keep))

    def decode(self, token_ids: Ids, lengths: Lengths) -> Logits:
        """Append one of ``token_ids``, int64 [B], to each of the first B slots, which hold ``lengths``, int32 [B].

        A slot of length `IDLE` is left alone, and its logits mean nothing; so are the slots from B on. Returns the next
        token's logits, float32 [B, V], which the next call overwrites.
        """
        return self._append(token_ids[:, None], lengths)[:, 0]

    def extend(self, token_ids: Ids, start: int) -> Logits:
        """Append the last token and drafted ones, int64 [S], to the first slot, which holds ``start`` positions.

        Returns the logits after each of them, float32 [S, V], which the next call overwrites. Unlike `prefill` it keeps
        what it has bound, for every S, which on small models is half of its time.
        """
        logits: Logits = self._append(token_ids[None], np.array([start], np.int32))[0]
        return logits

    def _hidden_value(self, layer: int) -> str:
        """The name of a layer's hidden states among the graph's outputs, which has them from now on."""
        if not self._hidden_values:
            self._put_out_hidden_states()
        return self._hidden_values[layer]

    def _final(self, layer: int, states: Floats) -> Floats:
        """The rows [..., K] of a layer as transformers has them: after the last normalization where it is the last."""
        if layer < self.spec.num_layers:
            return states
        if self._final_norm is None:
            self._final_norm = self._read_norm(read_graph(self._read_graph()))
        with np.errstate(invalid="ignore", over="ignore"):  # beyond the end of a prompt rows may be anything
            return self._final_norm(states)

    def _put_out_hidden_states(self) -> None:
        """Open the graph anew with its hidden states; raises what that raises, and the graph is as it was then."""
        values = hidden_values(read_graph(self._read_graph()))
        plain = self._open
        self._open = functools.partial(plain, hidden_states=True)
        self._bound.clear()
        del self._session  # before the next one: there is never twice the memory
        self._inherited = True
        try:
            self._reopen()
            self._hidden_values = values
        except BaseException:
            self._open = plain
            self._reopen()
            raise

    def _run_alone(self, slot: int, token_ids: Ids, start: int, logits_to_keep: int, output: str) -> Floats:
        """Append tokens [S] to a slot that holds ``start`` positions; returns one of the graph's outputs."""
        self._filled.add(slot)
        lengths = np.array([start], np.int32)
        dummy = needs_dummy(len(token_ids), lengths, self._split_below)
        inputs = RunInputs(1, len(token_ids), logits_to_keep, dummy=dummy)
        bound = BoundInputs(self._session, self._cache, slice(slot, slot + 1 + dummy), inputs, output=output)
        bound.fill(token_ids[None], lengths)
        first = first_row(self.spec, start, self._cache.kv_cache)
        with self._cache.untouched(slot + 1, first) if dummy else contextlib.nullcontext():
            return bound.run()

    def _one_by_one(self, prompts: Sequence[Ids]) -> bool:
        """Whether prompts do not share a run: one alone, those of one token, which may need a dummy, and all of a
        bundle whose prompts get other bits together."""
        return len(prompts) == 1 or max(len(prompt) for prompt in prompts) == 1 or not self._reads_together

    def _run_prompts(self, slot: int, prompts: Sequence[Ids], logits_to_keep: int, output: str) -> Floats:
        """Begin the slots from ``slot`` on with prompts [T]; returns one of the graph's outputs."""
        self._filled.update(range(slot, slot + len(prompts)))
        inputs = RunInputs(len(prompts), max(len(prompt) for prompt in prompts), logits_to_keep, dummy=False)
        bound = BoundInputs(self._session, self._cache, slice(slot, slot + len(prompts)), inputs, output=output)
        inputs.fill_prompts(prompts)
        return bound.run()

    def _reopen(self) -> None:
        """Open the graph in a forked child; the inherited one is only kept. Raises what opening it raises."""
        session, _ = self._open()
        self._bound.clear()
        self._session, self._inherited = session, False

    def _append(self, token_ids: Ids, lengths: Lengths) -> Logits:
        """Append tokens [B, S] to the first B slots, of ``lengths`` [B]; logits of all, float32 [B, S, V]."""
        count, rows = token_ids.shape
        dummy = needs_dummy(rows, np.maximum(lengths, 0), self._split_below)
        bound = self._bound.get((count, rows, dummy))
        if bound is None:
            inputs = RunInputs(count, rows, rows, dummy=dummy)
            shape = (count + dummy, rows, self.spec.vocab_size)
            logits = self._step_logits[: count + dummy] if rows == 1 else np.zeros(shape, np.float32)
            bound = BoundInputs(self._session, self._cache, slice(0, count + dummy), inputs, logits)
            self._bound[count, rows, dummy] = bound
        moved = bound.fill(token_ids, lengths)
        if moved and dummy and count not in self._filled:  # whose rows would pile up: each is on another page of memory
            self._cache.release(count)
        kept = self._filled.intersection([*np.flatnonzero(lengths == IDLE), *([count] if dummy else [])])
        with contextlib.ExitStack() as stack:
            for slot in kept:
                stack.enter_context(self._cache.untouched(slot, bound.first or 0))
            return bound.run()[:count]


def _each(prompts: Sequence[Ids], count: int, run: Callable[[int, int], Floats]) -> Floats:
    """Each prompt's last ``count`` rows, [B, count, W], of runs that give a prompt's last n by its index and n."""
    found = [run(i, min(count, len(prompt))) for i, prompt in enumerate(prompts)]
    rows = np.zeros((len(prompts), count, found[0].shape[-1]), np.float32)
    for own, given in zip(rows, found, strict=True):
        own[count - len(given) :] = given
    return rows
