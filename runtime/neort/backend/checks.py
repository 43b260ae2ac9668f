"""What must hold before a bundle's graph is run, and what onnxruntime's attention does on this machine.

Knows graphs, bundles and onnxruntime; runs no model but the probes.
"""

from __future__ import annotations

import functools
from pathlib import Path

import onnxruntime as ort

from ..arrays import AnyArray, Floats
from ..bundle import Bundle, ModelSpec, external_locations, graph_names
from ..errors import BundleError, UnsupportedError
from .attention import HYBRID, Attend, heads_per_thread, window_difference
from .inputs import bind_buffer
from .options import onnxruntime_version, open_session, plain_options

__all__ = [
    "INT8_CACHE_SINCE",
    "check_int8_cache",
    "check_locations",
    "check_shapes",
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


def check_locations(bundle: Bundle, file: Path, graph: bytes) -> None:
    """Raises BundleError where the graph's weights lie in a file that the manifest does not vouch for."""
    try:
        foreign = external_locations(graph) - set(bundle.file_names)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{file} is no ONNX model ({error}); copy or export the bundle again") from None
    if foreign:
        raise BundleError(
            f"{file} reads its weights from {min(foreign)!r}, which the manifest does not list; the bundle was "
            "tampered with: copy or export it again"
        )


def check_shapes(session: ort.InferenceSession, bundle: Bundle, file: Path) -> None:
    """Raises BundleError where the graph's cache or logits have other dimensions than the manifest says."""
    spec = bundle.spec
    names = set(map(graph_names.past, graph_names.cache_parts(spec.num_layers)))
    caches = {value.name: value.shape for value in session.get_inputs() if graph_names.is_past(value.name)}
    heads = {(shape[1], shape[3]) for shape in caches.values()}
    vocab = {value.shape[-1] for value in session.get_outputs() if value.name == graph_names.LOGITS}
    if set(caches) != names or heads != {(spec.num_heads, spec.head_dim)} or vocab != {spec.vocab_size}:
        raise BundleError(
            f"{file} is of another model than the manifest: it has {len(caches) // 2} layers, heads x "
            f"head_dim {sorted(heads)} and vocab_size {sorted(vocab)}; export the bundle again"
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
