"""Opens a bundle's graphs in onnxruntime: exact products, packed weights, and checks of what is in the files.

Knows files and onnxruntime's options; runs no model.
"""

from __future__ import annotations

import functools
import os
import platform
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Full opt-out from onnxruntime's telemetry, which reads the environment once, when it is first imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

from ..bundle import Bundle, ModelSpec, external_locations
from ..errors import BundleError, NeortError
from ..kvcache import CacheType, bind_buffer
from .attention import HYBRID, Attend, heads_per_thread, window_difference
from .int8_products import PrecisionWarning, Run, int8_products_saturate
from .packed_weights import packed_graph, save_packed

__all__ = ["DECODER", "DECODERS", "decoder_file", "open_decoder", "open_session", "session_options", "split_below"]

DECODER = "decoder.onnx"
DECODERS: dict[CacheType, str] = {"fp32": DECODER, "int8": "decoder_int8_cache.onnx"}
INT8_PRODUCT = b"MatMulIntegerToFloat"
UNSIGNED_WEIGHTS_SINCE = (1, 30)  # older onnxruntimes abort when they convert weights that have no zero point
INT8_CACHE_SINCE = (1, 30)  # in 1.28 and 1.29 threads beyond the heads overwrite each other's sums
WINDOW_DIFFERENCE = 1e-4  # float32 rounds a hundred times less; one position more or less makes a hundred times more
FUSIONS = ["BiasGeluFusion", "SkipLayerNormFusion"]  # what ORT_ENABLE_EXTENDED would do to decoder.onnx besides
SPIN_MICROSECONDS = "100"  # threads wait this long for the next node before they sleep; see docs/design.md


def decoder_file(bundle: Bundle, kv_cache: CacheType) -> Path:
    """The graph for a cache of this type. Raises BundleError when the bundle has none, or onnxruntime is too old."""
    if kv_cache == "int8" and DECODERS[kv_cache] not in bundle.file_names:
        raise BundleError(
            f"{bundle.path} has no graph for kv_cache 'int8' (its format is {bundle.quantization}); use "
            "kv_cache='fp32', or export the checkpoint again, in a format other than fp32"
        )
    if kv_cache == "int8" and _version() < INT8_CACHE_SINCE:
        raise BundleError(
            f"onnxruntime {ort.__version__} cannot keep an int8 cache; update it to "
            f"{'.'.join(map(str, INT8_CACHE_SINCE))} or later, or use kv_cache='fp32'"
        )
    return bundle.file(DECODERS[kv_cache])


def _check_locations(bundle: Bundle, file: Path, graph: bytes) -> None:
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


def open_decoder(bundle: Bundle, file: Path, num_threads: int, packed_weights: Path | None = None) -> Any:
    """The graph in ``file`` as an onnxruntime session, whose cache has the manifest's dimensions.

    ``packed_weights`` is a folder for packed weights (see `packed`). Raises BundleError when weights lie in a file that
    the manifest does not list, when onnxruntime refuses the graph, and when the graph is of another model.
    """
    graph = file.read_bytes()
    _check_locations(bundle, file, graph)
    _check_windows()
    session = _load(bundle, file, graph, num_threads, packed_weights)
    _check_shapes(session, bundle, file)
    return session


def _check_windows() -> None:
    """Raises BundleError where local layers would be computed wrongly."""
    if (difference := _window_difference()) > WINDOW_DIFFERENCE:
        raise BundleError(
            f"onnxruntime {ort.__version__} computes the attention of local layers wrongly on this machine: the "
            f"difference is {difference:.1g}, the limit {WINDOW_DIFFERENCE:.0e}. Releases 1.22.0 to 1.23.2 let them "
            "see one position too many; update onnxruntime to 1.24.2 or later"
        )


@functools.cache
def _window_difference() -> float:
    return window_difference(_open_attention)


def _load(bundle: Bundle, file: Path, graph: bytes, num_threads: int, packed_weights: Path | None) -> Any:
    options = session_options(num_threads, graph)
    try:
        if packed_weights is not None:
            file = _packed(bundle, file, packed_weights, graph, options.graph_optimization_level)
        return open_session(os.fspath(file), options)
    except NeortError:
        raise
    except Exception as error:  # onnxruntime's errors share no public base class
        raise BundleError(
            f"onnxruntime {ort.__version__} cannot load {file}: {error}; "
            "check the bundle with `neort verify`, or update onnxruntime"
        ) from error


def _packed(bundle: Bundle, file: Path, folder: Path, graph: bytes, level: Any) -> Path:
    """The graph whose packed weights lie in ``folder``; a session that is dropped at once saves them first."""

    def save(partial: Path) -> None:
        options = session_options(1, graph)
        save_packed(options, partial)
        open_session(os.fspath(file), options)

    return packed_graph(bundle, file, folder, f"onnxruntime {ort.__version__} {platform.machine()} {level}", save)


def session_options(num_threads: int, graph: bytes) -> Any:
    """How a graph is run: with exact int8 products, where it has any."""
    options = _options(num_threads)
    if INT8_PRODUCT in graph and int8_products_saturate(_runner(_options(1))):
        _use_unsigned_weights(options)
    return options


def open_session(model: str | bytes, options: Any) -> Any:
    """A graph, by its path or as bytes, in onnxruntime."""
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"], disabled_optimizers=FUSIONS)


def split_below(num_threads: int, spec: ModelSpec) -> int:
    """The number of sequences below which onnxruntime splits their pasts among threads in a decode step; 0: never."""
    if num_threads == 1 or HYBRID * num_threads <= spec.num_heads:
        return 0
    heads = _heads_per_thread(spec.head_dim, spec.max_position_embeddings) * num_threads
    return -(-heads // spec.num_heads)


@functools.cache
def _heads_per_thread(head_dim: int, positions: int) -> int:
    return heads_per_thread(_open_attention, head_dim, positions)


def _open_attention(model: bytes, num_threads: int) -> Attend:
    """A model of one attention."""
    session = open_session(model, _options(num_threads))

    def attend(feeds: dict[str, NDArray[Any]], cache: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        binding = session.io_binding()
        for name, array in feeds.items():
            bind_buffer(binding.bind_input, name, array)
        for name, rows in cache.items():
            bind_buffer(binding.bind_input, f"past_{name}", rows)
            bind_buffer(binding.bind_output, f"present_{name}", rows)
        binding.bind_output("attention", "cpu")
        session.run_with_iobinding(binding)
        attention: NDArray[np.float32] = binding.get_outputs()[-1].numpy()
        return attention

    return attend


def _options(num_threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.spin_duration_us", SPIN_MICROSECONDS)
    options.add_session_config_entry("session.prepack.enable_parallel", "1")  # loads in half the time
    return options


def _version() -> tuple[int, ...]:
    """onnxruntime's release, (1, 32) say."""
    return tuple(int(part) for part in ort.__version__.split(".")[:2])


def _runner(options: Any) -> Run:
    """Runs a model on feeds with these options, and returns its first output."""
    return lambda model, feeds: open_session(model, options).run(None, feeds)[0]


def _use_unsigned_weights(options: Any) -> None:
    """Let onnxruntime convert weights to uint8 as it loads them: uint8 x uint8 is exact, and slower.

    It does so at ORT_ENABLE_EXTENDED only; below, the setting is ignored without a word, so the effect is checked.
    """
    if _version() >= UNSIGNED_WEIGHTS_SINCE:
        for changed in (options, probe_options := _options(1)):
            changed.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
            changed.add_session_config_entry("session.x64quantprecision", "1")
        if not int8_products_saturate(_runner(probe_options)):
            return
    warnings.warn(
        f"this processor sums pairs of int8 products in 16 bits, and onnxruntime {ort.__version__} offers no way "
        "around it: logits are off by a mean KL divergence of 7e-3 nats (the bundled model), thirty times what int8 "
        f"costs elsewhere; update onnxruntime to {'.'.join(map(str, UNSIGNED_WEIGHTS_SINCE))} or later, or export "
        "the checkpoint as fp32",
        PrecisionWarning,
        stacklevel=2,
    )


def _check_shapes(session: Any, bundle: Bundle, file: Path) -> None:
    """Raises BundleError where the graph's cache or logits have other dimensions than the manifest says."""
    spec = bundle.spec
    names = {f"past_key_values.{i}.{kind}" for i in range(spec.num_layers) for kind in ("key", "value")}
    caches = {value.name: value.shape for value in session.get_inputs() if value.name.startswith("past_key_values.")}
    heads = {(shape[1], shape[3]) for shape in caches.values()}
    vocab = {value.shape[-1] for value in session.get_outputs() if value.name == "logits"}
    if set(caches) != names or heads != {(spec.num_heads, spec.head_dim)} or vocab != {spec.vocab_size}:
        raise BundleError(
            f"{file} is of another model than the manifest: it has {len(caches) // 2} layers, heads x "
            f"head_dim {sorted(heads)} and vocab_size {sorted(vocab)}; export the bundle again"
        )
