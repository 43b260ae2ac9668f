"""Where a server's models come from, as one process can tell another."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...loading import load
from ...workers import load_together
from ..app.metrics import Metrics
from ..handlers import Handlers, Limits, ServedModel

__all__ = ["ModelSource", "Sources"]


@dataclass(frozen=True)
class ModelSource:
    """A bundle, how it is loaded, and how it is served; see `ServedModel`. ``loading`` is for `neort.load`."""

    name: str
    path: Path
    created: int
    loading: dict[str, Any] = field(default_factory=dict)
    chat_template: str | None = None

    def served(self) -> ServedModel:
        """Load it. Raises what `neort.load` does."""
        return ServedModel(self.name, load(self.path, **self.loading), self.created, self.chat_template)

    def served_together(self, threads: int, folder: Path | None) -> ServedModel:
        """Load it in a worker, for so many threads; see `workers.load_together`."""
        model = load_together(self.path, {**self.loading, "num_threads": threads}, folder)
        return ServedModel(self.name, model, self.created, self.chat_template)


@dataclass(frozen=True)
class Sources:
    """The models of a server, and its limits."""

    models: tuple[ModelSource, ...]
    limits: Limits

    def handlers(self, threads: int, folder: Path | None) -> Handlers:
        """Load all in a worker. Raises what `neort.load` does."""
        models = [each.served_together(threads, folder) for each in self.models]
        return Handlers(models, self.limits, Metrics(models))
