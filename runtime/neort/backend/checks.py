"""What must hold before a bundle's graph is run, and what onnxruntime's attention does on this machine.

Knows graphs and onnxruntime; runs no model but the probes.
"""

from __future__ import annotations

import functools

import onnxruntime as ort

from ..arrays import AnyArray, Floats
from ..bundle import ModelSpec
from ..errors import UnsupportedError
from .attention import HYBRID, Attend, heads_per_thread, window_difference
from .inputs import bind_buffer
from .options import onnxruntime_version, open_session, plain_options

__all__ = [
    "INT8_CACHE_SINCE",
    "check_int8_cache",
    "check_windows",
    "open_attention",
    "split_below",
]

INT8_CACHE_SINCE = (1, 30)  # in 1.28 and 1.29 threads beyond the heads overwrite each other's sums
WINDOW_DIFFERENCE = 1e-4  # float32 rounds a hundred times less; one position more or less makes a hundred times more


def check_int8_cache() -> None:
    """Raises UnsupportedError where onnxruntime is too old to keep an int8 cache."""
    if onnxruntime_version() < INT8_CACHE_SINCE:
        raise UnsupportedError(
            f"onnxruntime {ort.__version__} cannot keep an int8 cache; update it to "
            f"{'.'.join(map(str, INT8_CACHE_SINCE))} or later, or use kv_cache='fp32'"
        )


def check_windows() -> None:
    """Raises UnsupportedError where onnxruntime would compute local layers wrongly."""
    if (difference := _window_difference()) > WINDOW_DIFFERENCE:
        raise UnsupportedError(
            f"onnxruntime {ort.__version__} computes the attention of local layers wrongly on this machine: the "
            f"difference is {difference:.1g}, the limit {WINDOW_DIFFERENCE:.0e}. Releases 1.22.0 to 1.23.2 let them "
            "see one position too many; update onnxruntime to 1.24.2 or later"
        )


def split_below(num_threads: int, spec: ModelSpec) -> int:
    """Return the number of sequences below which onnxruntime splits their pasts among threads in a decode step.

    0: never.
    """
    if num_threads == 1 or HYBRID * num_threads <= spec.num_heads:
        return 0
    heads = _heads_per_thread(spec.head_dim, spec.max_position_embeddings) * num_threads
    return -(-heads // spec.num_heads)


def open_attention(model: bytes, num_threads: int) -> Attend:
    """Open a model of one attention, such as `attention.SPLIT`, as a function of feeds and a cache."""
    session = open_session(model, plain_options(num_threads))

    def attend(feeds: dict[str, AnyArray], cache: dict[str, Floats]) -> Floats:
        binding = session.io_binding()
        for name, array in feeds.items():
            bind_buffer(binding.bind_input, name, array)
        for name, rows in cache.items():
            bind_buffer(binding.bind_input, f"past_{name}", rows)
            bind_buffer(binding.bind_output, f"present_{name}", rows)
        binding.bind_output("attention", "cpu")
        session.run_with_iobinding(binding)
        attention: Floats = binding.get_outputs()[-1].numpy()
        return attention

    return attend


@functools.cache
def _window_difference() -> float:
    return window_difference(open_attention)


@functools.cache
def _heads_per_thread(head_dim: int, positions: int) -> int:
    return heads_per_thread(open_attention, head_dim, positions)
