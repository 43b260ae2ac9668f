"""The inputs of a decoder graph: computed from token ids and lengths, and bound to the memory that they lie in.

The cache is bound as past and present at once, so that the graph writes it in place. Local layers get a past that
begins later: see `kvcache.buffers`.

onnxruntime splits the past of a decode step among threads where these outnumber the heads of all sequences, and adds
up in another order (see `attention.heads_per_thread`). In a batch of several lengths it never does. So a step that it
would split gets a dummy: one more sequence, of a single token without a past. Its products cost little, since
they read the same weights, and each row keeps the bits that it has in any batch and on any number of threads.

Knows the graph's inputs and onnxruntime's bindings; knows nothing about requests or text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnxruntime as ort

from ..arrays import AnyArray, Floats, Ids, Lengths, Logits
from ..bundle import ModelSpec
from ..bundle import graph_names as names
from ..errors import EngineError, NeortError, OutOfMemoryError
from ..kvcache import CacheType, KVCache
from ..runner import IDLE
from .memory import lacks_memory

__all__ = [
    "BoundInputs",
    "RunInputs",
    "bind_buffer",
    "bind_past",
    "common_rows",
    "first_row",
    "needs_dummy",
    "own_rows",
]

ROW_STEP = 16  # a past that begins at a multiple of 4 rows gives a decode step the same bits as a whole one


def needs_dummy(rows: int, lengths: Lengths, split_below: int) -> bool:
    """Whether a run of ``rows`` tokens after each of ``lengths`` [B] cached positions would be split among threads.

    ``split_below`` is the number of sequences from which on none is, see `checks.split_below`.
    """
    return rows == 1 and len(lengths) < split_below and bool((lengths == lengths[0]).all())


def first_row(spec: ModelSpec, shortest: int, kv_cache: CacheType = "fp32") -> int:
    """Return where the past of local layers begins, if the shortest sequence has ``shortest`` cached positions."""
    return 0 if kv_cache == "int8" else max(0, shortest - spec.window_size + 1) // ROW_STEP * ROW_STEP


def bind_buffer(bind: Callable[..., object], name: str, array: AnyArray) -> None:
    """Bind an array's own memory as an input or output; the array must outlive the binding."""
    bind(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)


def bind_past(binding: ort.IOBinding, part: str, slots: AnyArray, first: int) -> None:
    """Bind some slots [B, H, M, D] of a part of the cache as past and present at once, from row ``first`` on.

    ``part`` is its name, such as "0.key". The shape stays [B, H, M, D]: its last rows lie beyond the last slot, where
    nothing is read or written.
    """
    address = slots.ctypes.data + first * slots.strides[2]
    for bind, name in ((binding.bind_input, names.past(part)), (binding.bind_output, names.present(part))):
        bind(name, "cpu", 0, slots.dtype.type, slots.shape, address)


def common_rows(prompts: Sequence[Ids], count: int) -> int:
    """How many of the last places of a run of padded ``prompts`` [T] hold the last ``count`` tokens of each."""
    if count == 0:
        return 0
    return max(len(prompt) for prompt in prompts) - min(max(0, len(prompt) - count) for prompt in prompts)


def own_rows(rows: Floats, prompts: Sequence[Ids], count: int) -> Floats:
    """Return each prompt's last ``count`` rows, [B, count, W], of those at the last n places of a run, [B, n, W].

    n is `common_rows` or more. Rows before a prompt's first mean nothing.
    """
    lengths = np.array([len(prompt) for prompt in prompts])
    places = np.maximum(0, lengths[:, None] - count + np.arange(count)) - (lengths.max() - rows.shape[1])
    return np.take_along_axis(rows, places[..., None], axis=1)


class RunInputs:
    """The inputs of runs that append ``rows`` tokens to each of ``count`` sequences; every run fills them anew.

    A ``dummy`` is the last sequence, in the slot after the others: token 0 at position 0. The run writes its key and
    value into row 0 of that slot, in local layers into the row where their past begins. An idle slot is
    treated likewise.
    """

    def __init__(self, count: int, rows: int, logits_to_keep: int, *, dummy: bool) -> None:
        """``logits_to_keep`` is how many of each sequence's last tokens get logits."""
        slots = count + dummy
        self.feeds: dict[str, AnyArray] = {
            names.INPUT_IDS: np.zeros((slots, rows), np.int64),
            names.POSITION_IDS: np.zeros((slots, rows), np.int64),
            names.SEQLENS_K: np.zeros(slots, np.int32),
            names.TOTAL_SEQUENCE_LENGTH: np.zeros((), np.int32),
            names.LOCAL_SEQLENS_K: np.zeros(slots, np.int32),
            names.LOCAL_TOTAL_SEQUENCE_LENGTH: np.zeros((), np.int32),
            names.LOGITS_TO_KEEP: np.array(logits_to_keep, np.int64),
        }
        self._count = count
        self._offsets = np.arange(rows)

    def fill(self, token_ids: Ids, lengths: Lengths, first: int) -> None:
        """Let ``token_ids`` [B, S] follow ``lengths`` [B] cached positions; local layers begin at row ``first``.

        Where the length is `IDLE`, the token is what a dummy's is.
        """
        count, feeds = self._count, self.feeds
        lengths = np.maximum(lengths, 0)
        last = lengths + np.int32(len(self._offsets) - 1)
        longest = last.max() + 1
        feeds[names.INPUT_IDS][:count] = token_ids
        feeds[names.POSITION_IDS][:count] = lengths[:, None] + self._offsets
        feeds[names.SEQLENS_K][:count] = last
        feeds[names.TOTAL_SEQUENCE_LENGTH][...] = longest
        feeds[names.LOCAL_SEQLENS_K][:count] = np.maximum(last - first, 0)
        feeds[names.LOCAL_TOTAL_SEQUENCE_LENGTH][...] = longest - first

    def fill_prompts(self, prompts: Sequence[Ids]) -> None:
        """Let ``prompts``, [T] each, begin the sequences; the shorter ones are padded on the right."""
        ends = np.array([len(prompt) for prompt in prompts], np.int32)
        padded = np.zeros((len(prompts), len(self._offsets)), np.int64)
        for row, prompt in zip(padded, prompts, strict=True):
            row[: len(prompt)] = prompt
        self.fill(padded, np.zeros(len(prompts), np.int32), 0)
        for name in (names.SEQLENS_K, names.LOCAL_SEQLENS_K):
            self.feeds[name][: len(prompts)] = ends - 1


class BoundInputs:
    """What runs of one kind read and write, bound once: inputs, the cache of their slots, and logits.

    Valid as long as the cache's buffers stay where they are. ``first`` is the row where the past of local layers
    begins; None while they are bound to another one.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        cache: KVCache,
        slots: slice,
        inputs: RunInputs,
        logits: Logits | None = None,
        output: str = names.LOGITS,
    ) -> None:
        """Bind ``inputs``, which have as many sequences as ``slots``, the dummy's included.

        ``logits`` [B, logits_to_keep, V] is what every run overwrites; None: each run gets an array of its own.
        ``output`` is what it returns in their place, of any name that the graph puts out.
        """
        self.first: int | None = 0
        self._session, self._cache, self._slots, self._inputs, self._logits = session, cache, slots, inputs, logits
        self._local = [i for i, kind in enumerate(cache.spec.attention_layers) if kind == "local"]
        self._binding = session.io_binding()
        for name, array in inputs.feeds.items():
            bind_buffer(self._binding.bind_input, name, array)
        for part, buffer in cache.buffers.items():
            bind_past(self._binding, part, buffer[slots], 0)
        if logits is None:
            self._binding.bind_output(output, "cpu")
        else:
            bind_buffer(self._binding.bind_output, names.LOGITS, logits)

    def fill(self, token_ids: Ids, lengths: Lengths) -> bool:
        """Let the next run append ``token_ids`` [B, S] to sequences of ``lengths`` [B] cached positions.

        Returns whether the past of local layers begins at another row than before.
        """
        first = first_row(self._cache.spec, int(lengths[lengths != IDLE].min()), self._cache.kv_cache)
        moved = first != self.first
        if moved:
            self.first = None
            for layer in self._local:
                for part in names.layer_parts(layer):
                    bind_past(self._binding, part, self._cache.buffers[part][self._slots], first)
            self.first = first
        self._inputs.fill(token_ids, lengths, first)
        return moved

    def run(self) -> Logits:
        """Run the graph; returns its logits, float32 [B, logits_to_keep, V], the dummy's included.

        Raises OutOfMemoryError where onnxruntime gets no memory, EngineError where it fails otherwise.
        """
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # onnxruntime's errors share no public base class
            raise _run_error(error) from error
        if self._logits is not None:
            return self._logits
        logits: Logits = self._binding.get_outputs()[-1].numpy()
        return logits


def _run_error(error: Exception) -> NeortError:
    """What onnxruntime says about a run that failed, as one of neort's errors."""
    said = " ".join(str(error).split())[:200] or type(error).__name__
    if lacks_memory(error):
        return OutOfMemoryError(
            f"onnxruntime gets no memory for a run of the model ({said}); lower max_batch_size, max_cache_bytes or "
            "prefix_cache_bytes, or give the process more memory"
        )
    return EngineError(
        f"onnxruntime {ort.__version__} failed in a run of the model ({said}); check it by `neort verify`"
    )
