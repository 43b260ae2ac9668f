"""A loaded model: text in, text out."""

from __future__ import annotations

from typing import NoReturn

from ..engine import EngineFigures
from ..errors import ArgumentTypeError
from .prefixes import PrefixingModel
from .reading import ReadingModel

__all__ = ["Model"]


class Model(PrefixingModel, ReadingModel):
    """A bundle, ready to generate; made by `neort.load`.

    Several threads may use one model: their sequences are decoded together.

    Attributes:
        bundle: the folder that it was loaded from.
        tokenizer: text to token ids and back.
        generation_config: the options of the bundle's generation_config.json, which hold where a call gives no others.
    """

    @property
    def num_threads(self) -> int:
        """Threads that one run of the model uses."""
        return self._session.num_threads

    @property
    def engine_figures(self) -> EngineFigures:
        """What runs and waits now, and what was done since the model was loaded. Any thread may ask; none waits."""
        return self._engine.figures

    def __reduce__(self) -> NoReturn:
        """Raise ArgumentTypeError: a model is loaded in every process, not sent there."""
        raise ArgumentTypeError(
            "a Model can be neither pickled nor copied; send the path of its bundle, and call neort.load there, with a "
            "folder for packed_weights if processes are to share the weights"
        )

    def __repr__(self) -> str:
        return f"<neort.Model {self.bundle.path.name}: {self.bundle.quantization}, {self.num_threads} threads>"
