"""How onnxruntime opens a graph: on CPUs, with exact int8 products.

Knows onnxruntime's options; knows nothing about bundles or caches.
"""

from __future__ import annotations

import warnings

import onnxruntime as ort

from .int8_products import PrecisionWarning, Run, int8_products_saturate
from .threads import checked_threads

__all__ = [
    "UNSIGNED_WEIGHTS_SINCE",
    "int8_products_saturate_here",
    "onnxruntime_version",
    "open_session",
    "plain_options",
    "run_with",
    "session_options",
]

INT8_PRODUCT = b"MatMulIntegerToFloat"
UNSIGNED_WEIGHTS_SINCE = (1, 30)  # older onnxruntimes abort when they convert weights that have no zero point
FUSIONS = ["BiasGeluFusion", "SkipLayerNormFusion"]  # what ORT_ENABLE_EXTENDED would do to decoder.onnx besides
SPIN_MICROSECONDS = "100"  # threads wait this long for the next node before they sleep; see docs/design.md


def onnxruntime_version() -> tuple[int, ...]:
    """Return the installed onnxruntime's release, (1, 32) say."""
    return tuple(int(part) for part in ort.__version__.split(".")[:2])


def session_options(num_threads: int, graph: bytes) -> ort.SessionOptions:
    """Return the options for an ONNX model: `plain_options`, with exact int8 products where it has any.

    Warns with PrecisionWarning where nothing makes them exact.
    """
    options = plain_options(num_threads)
    if INT8_PRODUCT in graph and int8_products_saturate_here():
        _use_unsigned_weights(options)
    return options


def plain_options(num_threads: int) -> ort.SessionOptions:
    """Return the options of every session, whatever the processor makes of int8 products.

    Raises ConfigError for more threads than `threads.thread_limit`, before onnxruntime tries to start them.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = checked_threads(num_threads)
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.enable_mem_pattern = False
    options.log_severity_level = 4  # what is an error is raised, too
    options.add_session_config_entry("session.intra_op.spin_duration_us", SPIN_MICROSECONDS)
    options.add_session_config_entry("session.prepack.enable_parallel", "1")  # loads in half the time
    return options


def open_session(model: str | bytes, options: ort.SessionOptions) -> ort.InferenceSession:
    """Open an ONNX model, by its path or as bytes, in onnxruntime."""
    return ort.InferenceSession(
        model,
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=FUSIONS,
        enable_fallback=0,  # to the same provider, once more, announced on standard output
    )


def run_with(options: ort.SessionOptions) -> Run:
    """Return what opens a model with these options, runs it on feeds, and returns its first output."""
    return lambda model, feeds: open_session(model, options).run(None, feeds)[0]


def int8_products_saturate_here() -> bool:
    """Whether this onnxruntime on this processor computes uint8 x int8 products wrongly, left to itself."""
    return int8_products_saturate(run_with(plain_options(1)))


def _use_unsigned_weights(options: ort.SessionOptions) -> None:
    """Let onnxruntime convert weights to uint8 as it loads them: uint8 x uint8 is exact, and slower.

    It does so at ORT_ENABLE_EXTENDED only; below, the setting is ignored without a word, so the effect is checked.
    """
    if onnxruntime_version() >= UNSIGNED_WEIGHTS_SINCE:
        for changed in (options, probe_options := plain_options(1)):
            changed.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
            changed.add_session_config_entry("session.x64quantprecision", "1")
        if not int8_products_saturate(run_with(probe_options)):
            return
    warnings.warn(
        f"this processor sums pairs of int8 products in 16 bits, and onnxruntime {ort.__version__} offers no way "
        "around it: logits are off by a mean KL divergence of 7e-3 nats (a small model), thirty times what int8 "
        f"costs elsewhere; update onnxruntime to {'.'.join(map(str, UNSIGNED_WEIGHTS_SINCE))} or later, or export "
        "the checkpoint as fp32",
        PrecisionWarning,
        stacklevel=2,
    )
