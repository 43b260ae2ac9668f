"""Opens a pipeline: by its task, with a model or the folder of a bundle.

What transformers' `pipeline` takes and a bundle has no use for is told apart from what it would silently change.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from typing import Any

from ..errors import ArgumentTypeError, ConfigError
from ..generation import LOAD_KNOWN_ELSEWHERE
from ..loading import load
from ..model import Model
from ..wording import shortened
from .feature_extraction import FeatureExtractionPipeline
from .text_generation import TextGenerationPipeline

__all__ = ["TASKS", "open_pipeline"]

TASKS: dict[str, type[TextGenerationPipeline] | type[FeatureExtractionPipeline]] = {
    "text-generation": TextGenerationPipeline,
    "feature-extraction": FeatureExtractionPipeline,
}

OF_CALLS = {"batch_size", "max_length", "num_workers"}  # what a pipeline itself takes, though `load` has another word
LOADING = set(inspect.signature(load).parameters) - {"bundle"}
# Values with which transformers' arguments say what holds here in any case.
GRANTED: dict[str, tuple[Any, ...]] = {
    "device": (-1, "cpu"),
    "device_map": ("cpu", "auto"),
    "dtype": ("auto",),
    "framework": ("pt",),
    "torch_dtype": ("auto",),
    "trust_remote_code": (False,),
    "use_fast": (True,),
}


def open_pipeline(
    task: str | None = None, model: str | os.PathLike[str] | Model | None = None, **arguments: Any
) -> TextGenerationPipeline | FeatureExtractionPipeline:
    """See `neort.pipeline`."""
    task = "text-generation" if task is None else task
    if not isinstance(task, str):
        raise ArgumentTypeError(f"task is a name such as 'text-generation', not {type(task).__name__}")
    if task not in TASKS:
        raise ConfigError(f"task is {shortened(task)}; these models serve {' and '.join(TASKS)}")
    model_arguments = arguments.pop("model_kwargs", None) or {}
    if not isinstance(model_arguments, Mapping):
        raise ArgumentTypeError(
            f"model_kwargs is a dict of neort.load's arguments, not {type(model_arguments).__name__}"
        )
    for name in [name for name in arguments if name in GRANTED or name in LOAD_KNOWN_ELSEWHERE]:
        if name not in OF_CALLS:
            _refuse_unless_granted(name, arguments.pop(name))
    loading = dict(model_arguments) | {name: arguments.pop(name) for name in LOADING & arguments.keys()}
    if not isinstance(model, Model):
        return TASKS[task](load(model, **loading), **arguments)
    if loading:
        raise ArgumentTypeError(f"a model that is loaded takes no {min(loading)}; give it to neort.load")
    return TASKS[task](model, **arguments)


def _refuse_unless_granted(name: str, value: Any) -> None:
    """Raise ArgumentTypeError for what transformers would do with this argument, and neort does not."""
    if value is None or value in GRANTED.get(name, ()) or str(value) in ("cpu", "device(type='cpu')"):
        return
    told = LOAD_KNOWN_ELSEWHERE.get(name, "leave it out")
    raise ArgumentTypeError(f"pipeline has no argument {name} ({shortened(value)}); {told}")
