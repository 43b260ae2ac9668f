"""GPT-Neo and GPT-2 on CPUs: bundles made by neort-export, decoded with numpy and onnxruntime."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, overload

from . import starting as starting  # before what is heavy
from .backend import PrecisionWarning
from .bundle import Bundle, ModelSpec
from .engine import Completion, EngineFigures, FinishReason, Piece, Stats
from .errors import (
    ArgumentTypeError,
    BundleError,
    BusyError,
    ConfigError,
    EngineError,
    HubError,
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

if TYPE_CHECKING:
    from .pipelines import FeatureExtractionPipeline, TextGenerationPipeline

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
    "EngineFigures",
    "FinishReason",
    "GenerationConfig",
    "GenerationOptions",
    "HubError",
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
    "pipeline",
]


@overload
def pipeline(
    task: Literal["text-generation"] | None = None,
    model: str | os.PathLike[str] | Model | None = None,
    **arguments: Any,
) -> TextGenerationPipeline: ...
@overload
def pipeline(
    task: Literal["feature-extraction"], model: str | os.PathLike[str] | Model | None = None, **arguments: Any
) -> FeatureExtractionPipeline: ...
def pipeline(
    task: str | None = None, model: str | os.PathLike[str] | Model | None = None, **arguments: Any
) -> TextGenerationPipeline | FeatureExtractionPipeline:
    """transformers' `pipeline` for "text-generation" (the default) and "feature-extraction".

    ``model`` is a bundle's folder, a loaded model, or None for the bundled one. ``arguments`` are those of `neort.load`
    where a folder is given, and those of a call, which then hold for all calls that do not give them.

    Raises what `neort.load` does; ConfigError for another task, ArgumentTypeError for an unknown argument.
    """
    from .pipelines import open_pipeline

    return open_pipeline(task, model, **arguments)
