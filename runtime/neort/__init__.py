"""GPT-Neo on CPUs: bundles made by neort-export, decoded with numpy and onnxruntime."""

from __future__ import annotations

from .bundle import Bundle, ModelSpec
from .completion import Completion, Piece
from .config import GenerationConfig
from .cpu import PrecisionWarning
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
from .model import Model, load
from .prefix import Prefix
from .request import Stats
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
