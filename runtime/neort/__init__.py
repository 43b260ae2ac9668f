"""GPT-Neo on CPUs: bundles made by neort-export, decoded with numpy and onnxruntime."""

from __future__ import annotations

from .backend import PrecisionWarning
from .bundle import Bundle, ModelSpec
from .engine import Completion, Piece, Stats
from .errors import (
    BundleError,
    ConfigError,
    LogitsError,
    MissingExtraError,
    NeortError,
    PrefixError,
    PromptError,
    TokenizerError,
)
from .generation import GenerationConfig
from .kvcache import Prefix
from .model import Model, load
from .tokenizer import Tokenizer

__version__ = "0.1.0"

__all__ = [
    "Bundle",
    "BundleError",
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
    "Tokenizer",
    "TokenizerError",
    "__version__",
    "load",
]
