"""GPT-Neo and GPT-2 checkpoints to neort bundles: traced, quantized and verified against torch.

Needs the extra ``export`` (torch, transformers, onnx): ``pip install "neort[export]"``. Its libraries are imported
when `export` is first used.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # before transformers imports the hub's client

from neort.errors import MissingExtraError

from .errors import CheckpointError, ExportError, VerificationError
from .quantization.limits import Limits
from .verification.agreement import Agreement

if TYPE_CHECKING:
    from .exporter import Report, export
    from .progress import Progress
    from .verification.figures import Verification
    from .verification.measure import verify

__all__ = [
    "Agreement",
    "CheckpointError",
    "ExportError",
    "Limits",
    "Progress",
    "Report",
    "Verification",
    "VerificationError",
    "export",
    "verify",
]

_EXTRA = {"torch", "transformers", "huggingface_hub", "onnx", "onnx_ir", "onnxscript", "safetensors", "tqdm", "yaml"}


def __getattr__(name: str) -> Any:
    """``export``, ``verify`` and their companions. Raises MissingExtraError when the extra is not installed."""
    if name not in __all__:
        raise AttributeError(f"module 'neort_export' has no attribute {name!r}")
    try:
        from . import exporter, progress
        from .verification import figures
        from .verification import measure as verifier
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA:
            raise
        raise MissingExtraError(f'exporting needs {missing}, which is missing: pip install "neort[export]"') from None
    module = next(m for m in (exporter, figures, progress, verifier) if name in m.__all__)
    return getattr(module, name)
