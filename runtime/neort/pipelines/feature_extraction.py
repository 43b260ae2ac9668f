"""The pipeline "feature-extraction": texts in, the last hidden states of their tokens out, as transformers has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..arrays import Floats
from ..errors import ArgumentTypeError, ConfigError
from ..model import Model
from ..wording import shortened
from .inputs import checked_batch_size, run_inputs
from .tokenization import model_max_length, truncated

__all__ = ["FeatureExtractionPipeline"]

PARAMETERS = ("batch_size", "num_workers", "return_tensors", "tokenize_kwargs", "truncation")
OF_TOKENIZER = ("add_special_tokens", "max_length", "padding", "truncation")
TENSORS = (True, "np")
LISTS = (None, False)


class FeatureExtractionPipeline:
    """Gives the features of texts; made by `neort.pipeline`.

    Attributes:
        model: the neort.Model that it runs.
        tokenizer: the model's tokenizer.
    """

    task = "feature-extraction"

    def __init__(self, model: Model, **parameters: Any) -> None:
        """``parameters`` are those of a call, for all calls that do not give them."""
        self.model = model
        self.tokenizer = model.tokenizer
        self._parameters = _checked(parameters)

    def __call__(self, inputs: Any, **parameters: Any) -> Any:
        """The hidden states after the last normalization: `Model.embed` with ``pooling="none"``.

        ``truncation`` True leaves out the end of a text beyond the model's positions, or beyond the ``max_length`` of
        ``tokenize_kwargs``, which also takes ``add_special_tokens``. ``return_tensors`` is "np" or True for arrays.

        Returns nested lists [1][T][K] for a str, or float32 [1, T, K]; a list of these for a list, and an iterator,
        which reads ``batch_size`` texts (1) at a time, for any other iterable.

        Raises what `Model.embed` does, ConfigError and ArgumentTypeError for other parameters.
        """
        options = {**self._parameters, **_checked(parameters)}
        arrays = options.get("return_tensors") in TENSORS

        def run(texts: Sequence[str], name: str) -> list[Any]:
            ids = [self._encoded(text, options) for text in texts]
            features: list[Floats] = self.model.embed(ids, pooling="none")
            return [each[None] if arrays else [each.tolist()] for each in features]

        return run_inputs(inputs, run, options.get("batch_size"))

    def _encoded(self, text: str, options: Mapping[str, Any]) -> list[int]:
        settings = options.get("tokenize_kwargs") or {}
        ids = self.tokenizer.encode(text, add_special_tokens=settings.get("add_special_tokens") is not False)
        truncation = options.get("truncation", settings.get("truncation"))
        longest = settings.get("max_length")
        return truncated(ids, truncation, model_max_length(self.model) if longest is None else longest)


def _checked(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that are given. Raises ArgumentTypeError for unknown ones, ConfigError for odd values."""
    given = {name: value for name, value in parameters.items() if value is not None}
    if unknown := given.keys() - set(PARAMETERS):
        raise ArgumentTypeError(
            f"feature-extraction has no parameter {shortened(min(unknown))}; known are {', '.join(PARAMETERS)}"
        )
    settings = given.get("tokenize_kwargs", {})
    if not isinstance(settings, Mapping):
        raise ArgumentTypeError(f"tokenize_kwargs is a dict, not {type(settings).__name__}")
    if unknown := settings.keys() - set(OF_TOKENIZER):
        raise ArgumentTypeError(f"tokenize_kwargs has {shortened(min(unknown))}; known are {', '.join(OF_TOKENIZER)}")
    if "truncation" in given and "truncation" in settings:
        raise ConfigError("truncation is given twice, as an argument and in tokenize_kwargs; give one of them")
    if given.get("return_tensors") not in (*TENSORS, *LISTS):
        raise ConfigError(f'return_tensors is {shortened(given["return_tensors"])}; use "np" or True for numpy arrays')
    checked_batch_size(given.get("batch_size"))
    return given
