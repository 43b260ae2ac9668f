"""Token ids in, vectors out: what `Model.embed` does.

Knows hidden states and the engine; knows nothing about text or files.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from ..arrays import Floats, Ids
from ..backend import DecoderSession
from ..engine import Engine, RowSource, check_ids
from ..prompts import about
from .options import Pooling, Truncation, check_features, checked_layer, fitting, normalized
from .pooling import PooledReading

__all__ = ["Embedder"]


class Embedder:
    """Makes vectors of texts, which are read in batches. Other requests of the engine go on between these."""

    def __init__(
        self,
        session: DecoderSession,
        engine: Engine,
        *,
        layer: int,
        pooling: Pooling,
        normalize: bool,
        truncation: Truncation | None,
    ) -> None:
        """``engine`` runs ``session``. Raises ConfigError and ArgumentTypeError for options that have no meaning."""
        check_features(pooling, normalize, truncation)
        spec = session.spec
        index = checked_layer(layer, spec.num_layers)
        self._engine, self._spec = engine, spec
        self._pooling: Pooling = pooling
        self._normalize = bool(normalize)
        self._truncation: Truncation | None = truncation
        self._source = RowSource(
            spec.num_layers * spec.hidden_size,  # a run keeps the results of all layers until it ends
            functools.partial(session.hidden_states, index),
            functools.partial(session.hidden_states_of_prompts, index),
        )

    def embed(self, texts: Sequence[Ids], names: Sequence[str]) -> list[Floats]:
        """The vector [K] of each text, or its array [T, K] where pooling is "none"; ``names`` are those in messages.

        Each is the same in any list. Raises what `Model.embed` does.
        """
        readings = []
        for token_ids, name in zip(texts, names, strict=True):
            fitted = fitting(token_ids, self._spec.max_position_embeddings, self._truncation, name)
            with about(name):
                check_ids(fitted, self._spec)
            readings.append(PooledReading(fitted, self._pooling, self._spec.hidden_size))
        vectors = [result.own for result in self._engine.read(readings, self._source)]
        return [normalized(each) for each in vectors] if self._normalize else vectors
