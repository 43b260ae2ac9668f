"""Opens a bundle's decoder graph in onnxruntime, with packed weights where a folder for them is given.

Knows files and onnxruntime's options; runs a model on three tokens only, to see that it does.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort

from ..bundle import Bundle, check_graph, graph_names, keeps_own_rows, read_graph
from ..errors import BundleError, NeortError, OutOfMemoryError
from ..kvcache import CACHE_TYPES, CacheType
from ..wording import shortened
from .checks import check_int8_cache, check_windows
from .hidden_states import hidden_values, with_outputs
from .inputs import RunInputs, bind_buffer, bind_past
from .memory import lacks_memory
from .options import open_session, session_options
from .packed_weights import packed_graph, save_packed

__all__ = ["DECODER", "DECODERS", "Configure", "OpenDecoder", "decoder_file", "open_decoder"]

DECODER = "decoder.onnx"
DECODERS: dict[CacheType, str] = {"fp32": DECODER, "int8": "decoder_int8_cache.onnx"}
ELEMENT_TYPES: dict[CacheType, int] = {"fp32": 1, "int8": 3}  # of the cache, by ONNX's numbers

WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"  # of a graph that is given as bytes
TRIED = 3  # tokens that every graph is tried on; more than twice the logits that are asked for

#: Changes the options of a session right before its graph is opened.
Configure = Callable[[ort.SessionOptions], None]


class OpenDecoder(NamedTuple):
    """A decoder graph in onnxruntime, and whether its rows of logits are each sequence's own: see `keeps_own_rows`."""

    session: ort.InferenceSession
    keeps_own_rows: bool


def decoder_file(bundle: Bundle, kv_cache: CacheType) -> Path:
    """Return the path of the graph for a cache of this type.

    Raises BundleError when the bundle has none, UnsupportedError when onnxruntime is too old for it.
    """
    if kv_cache == "int8":
        if DECODERS[kv_cache] not in bundle.file_names:
            why = "which an fp32 bundle never has" if bundle.quantization == "fp32" else "which missed its limits"
            raise BundleError(f"{bundle.path} has no graph for kv_cache 'int8', {why}; use kv_cache='fp32'")
        check_int8_cache()
    return bundle.file(DECODERS[kv_cache])


def open_decoder(
    bundle: Bundle,
    file: Path,
    num_threads: int,
    packed_weights: Path | None = None,
    configure: Configure | None = None,
    *,
    hidden_states: bool = False,
) -> OpenDecoder:
    """Open the graph in ``file``, whose cache has the manifest's dimensions.

    ``hidden_states`` makes outputs of them, after the others: see `hidden_states.hidden_values`.

    ``packed_weights`` is a folder for packed weights (see `packed_weights`); ``configure`` gets the options of the
    session that is returned, not of the one that only saves packed weights.

    Raises BundleError when the graph cannot be read, when weights lie in a file that the manifest does not list, when
    the graph is of another model, and when onnxruntime cannot load or run it; OutOfMemoryError when there is no memory
    for it; UnsupportedError when onnxruntime computes local attention wrongly.
    """
    graph = bundle.read_bytes(file.name)
    kind: CacheType = next((kind for kind, name in DECODERS.items() if name == file.name), "fp32")
    facts = check_graph(graph, file, bundle.spec, bundle.file_sizes, ELEMENT_TYPES[kind])
    check_windows()
    session = _load(bundle, file, graph, num_threads, packed_weights, configure, hidden_states)
    if not session.get_session_options().enable_profiling:  # a profile is of the caller's runs
        _try(session, bundle, file, CACHE_TYPES[kind])
    return OpenDecoder(session, keeps_own_rows(facts))


def _try(session: ort.InferenceSession, bundle: Bundle, file: Path, row_type: np.dtype[Any]) -> None:
    """Run three tokens. Raises BundleError where onnxruntime cannot, or gives something else than their logits."""
    spec = bundle.spec
    rows = [np.zeros((1, spec.num_heads, TRIED, spec.head_dim), row_type) for _ in range(2 * spec.num_layers)]
    inputs = RunInputs(1, TRIED, 1, dummy=False)
    inputs.fill(np.zeros((1, TRIED), np.int64), np.zeros(1, np.int32), 0)
    try:
        binding = session.io_binding()
        for name, array in inputs.feeds.items():
            bind_buffer(binding.bind_input, name, array)
        for part, buffer in zip(graph_names.cache_parts(spec.num_layers), rows, strict=True):
            bind_past(binding, part, buffer, 0)
        binding.bind_output(graph_names.LOGITS, "cpu")
        session.run_with_iobinding(binding)
        logits = binding.get_outputs()[-1].numpy()
    except Exception as error:  # onnxruntime's errors share no public base class
        raise _refusal("run", file, error) from error
    if logits.shape != (1, 1, spec.vocab_size) or logits.dtype != np.float32:
        raise BundleError(
            f"{file} gives logits of {logits.dtype} {list(logits.shape)} for one position, where float32 "
            f"[1, 1, {spec.vocab_size}] is due; copy or export the bundle again"
        )


def _refusal(what: str, file: Path, error: Exception) -> NeortError:
    """The error for a graph that onnxruntime cannot load or run; whose fault it is follows from what it says."""
    if lacks_memory(error):
        return OutOfMemoryError(
            f"there is no memory to {what} {file} ({shortened(str(error))}); free some or allow more, use a format "
            "with smaller weights, or share them among processes by packed_weights"
        )
    return BundleError(
        f"onnxruntime {ort.__version__} cannot {what} {file} ({shortened(str(error))}); "
        "check the bundle with `neort verify`, or update onnxruntime"
    )


def _load(
    bundle: Bundle,
    file: Path,
    graph: bytes,
    num_threads: int,
    packed_weights: Path | None,
    configure: Configure | None,
    hidden_states: bool,
) -> ort.InferenceSession:
    options = session_options(num_threads, graph)
    level = options.graph_optimization_level
    if configure is not None:
        configure(options)
    try:
        if packed_weights is not None:
            file = _packed(bundle, file, packed_weights, graph, level)
        if not hidden_states:
            return open_session(os.fspath(file), options)
        options.add_session_config_entry(WEIGHTS_FOLDER, os.fspath(file.parent))
        return open_session(_with_hidden_states(file.read_bytes()), options)
    except NeortError:
        raise
    except Exception as error:  # onnxruntime's errors share no public base class
        raise _refusal("load", file, error) from error


def _with_hidden_states(graph: bytes) -> bytes:
    """The graph with its hidden states as outputs, their names as they are."""
    return with_outputs(graph, hidden_values(read_graph(graph)))


def _packed(bundle: Bundle, file: Path, folder: Path, graph: bytes, level: ort.GraphOptimizationLevel) -> Path:
    """The graph whose packed weights lie in ``folder``; a session that is dropped at once saves them first."""

    def save(partial: Path) -> None:
        options = session_options(1, graph)
        save_packed(options, partial)
        open_session(os.fspath(file), options)

    return packed_graph(bundle, file, folder, f"onnxruntime {ort.__version__} {platform.machine()} {level}", save)
