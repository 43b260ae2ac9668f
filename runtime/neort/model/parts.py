"""What a loaded model is put together from, for the subjects that follow."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import Ids
from ..backend import DecoderSession
from ..bundle import Bundle, ModelSpec
from ..engine import Engine
from ..generation import GenerationConfig, Grammars
from ..prompts import Prompts, about, as_ids
from ..tokenizer import Tokenizer

__all__ = ["ModelParts"]


class ModelParts:
    """The parts of a `Model`, and its prompts as token ids."""

    def __init__(
        self,
        bundle: Bundle,
        tokenizer: Tokenizer,
        generation_config: GenerationConfig,
        runner: DecoderSession,
        engine: Engine,
    ) -> None:
        """Put a model together from its parts, of which ``engine`` runs requests on ``runner``; see `neort.load`."""
        self.bundle = bundle
        self.tokenizer = tokenizer
        self.generation_config = generation_config
        self._session = runner
        self._engine = engine
        self._grammars = Grammars(tokenizer, bundle.spec.vocab_size)

    @property
    def spec(self) -> ModelSpec:
        """The model's dimensions."""
        return self.bundle.spec

    def _encode(self, prompt: Any) -> Ids:
        return np.array(self.tokenizer.encode(prompt), np.int64) if isinstance(prompt, str) else as_ids(prompt)

    def _encode_all(self, prompts: Prompts) -> list[Ids]:
        """The token ids of each prompt in a list; an error says which prompt it is about."""
        encoded = []
        for i, prompt in enumerate(prompts):
            with about(f"prompt {i} of the list"):
                encoded.append(self._encode(prompt))
        return encoded
