"""GPT-Neo on CPUs: bundles made by neort-export, decoded with numpy and onnxruntime."""

from __future__ import annotations

from .backend import PrecisionWarning
from .bundle import Bundle, ModelSpec
from .engine import Completion, Piece, Stats
from .errors import (
    ArgumentTypeError,
    BundleError,
    BusyError,
    ConfigError,
    LogitsError,
    MissingExtraError,
    NeortError,
    PrefixError,
    PromptError,
    StorageError,
    TokenizerError,
    UnsupportedError,
)
from .generation import GenerationConfig
from .kvcache import Prefix
from .model import Model, load
from .tokenizer import Tokenizer

__version__ = "0.1.0"

__all__ = [
    "ArgumentTypeError",
    "Bundle",
    "BundleError",
    "BusyError",
    "Completion",
    "ConfigError",
    "GenerationConfig",
    "LogitsError",
    "MissingExtraError",
    "Model",
    "ModelSpec",
    "NeortError",
    "Piece",
    "PrecisionWarning",
    "Prefix",
    "PrefixError",
    "PromptError",
    "Stats",
    "StorageError",
    "Tokenizer",
    "TokenizerError",
    "UnsupportedError",
    "__version__",
    "load",
]
