"""GPT-Neo checkpoints to neort bundles: traced, quantized and verified against torch.

Needs the extra ``export`` (torch, transformers, onnx): ``pip install "neort[export]"``.
"""

from __future__ import annotations

try:
    from .export import Progress, Report, export
except ModuleNotFoundError as error:
    if error.name is None or error.name.split(".")[0] not in {"torch", "transformers", "onnx", "onnx_ir", "onnxscript",
                                                             "safetensors", "tqdm"}:  # fmt: skip
        raise
    from neort.errors import MissingExtraError

    raise MissingExtraError(
        f'neort_export needs {error.name}, which is not installed: pip install "neort[export]"'
    ) from None
from .errors import CheckpointError, ExportError, VerificationError
from .verification import Agreement, Limits

__all__ = [
    "Agreement",
    "CheckpointError",
    "ExportError",
    "Limits",
    "Progress",
    "Report",
    "VerificationError",
    "export",
]
