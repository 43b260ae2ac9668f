"""transformers' pipelines on a bundle: the same calls and results, by a change of the import alone."""

from __future__ import annotations

from .feature_extraction import FeatureExtractionPipeline
from .opening import TASKS, open_pipeline
from .text_generation import TextGenerationPipeline
from .text_options import ReturnType

__all__ = ["TASKS", "FeatureExtractionPipeline", "ReturnType", "TextGenerationPipeline", "open_pipeline"]
