"""GPT-Neo and GPT-2 on CPUs: bundles made by neort-export, decoded with numpy and onnxruntime."""

from __future__ import annotations

from . import starting as starting  # before what is heavy
from .backend import PrecisionWarning
from .bundle import Bundle, ModelSpec
from .engine import Completion, FinishReason, Piece, Stats
from .errors import (
    ArgumentTypeError,
    BundleError,
    BusyError,
    ConfigError,
    EngineError,
    LogitsError,
    MissingExtraError,
    NeortError,
    OutOfMemoryError,
    PrefixError,
    PromptError,
    StorageError,
    TokenizerError,
    UnsupportedError,
)
from .generation import GenerationConfig, GenerationOptions, LogitsProcessor, StoppingCriterion, TokenLogprob
from .kvcache import Prefix
from .loading import load
from .model import Model
from .prompts import Prompt
from .tokenizer import Tokenizer
from .verification import Check, check

__version__ = "0.1.0"

__all__ = [
    "ArgumentTypeError",
    "Bundle",
    "BundleError",
    "BusyError",
    "Check",
    "Completion",
    "ConfigError",
    "EngineError",
    "FinishReason",
    "GenerationConfig",
    "GenerationOptions",
    "LogitsError",
    "LogitsProcessor",
    "MissingExtraError",
    "Model",
    "ModelSpec",
    "NeortError",
    "OutOfMemoryError",
    "Piece",
    "PrecisionWarning",
    "Prefix",
    "PrefixError",
    "Prompt",
    "PromptError",
    "Stats",
    "StoppingCriterion",
    "StorageError",
    "TokenLogprob",
    "Tokenizer",
    "TokenizerError",
    "UnsupportedError",
    "__version__",
    "check",
    "load",
]
