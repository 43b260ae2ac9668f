"""Handlers without a model for the processes of a server, in a module that they can import. Needs neort[serve]."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from asgi import FakeHandlers, Stream
from neort.errors import BundleError
from neort.server.app.metrics import Metrics
from neort.server.handlers import Handlers

__all__ = ["FakeSource"]


@dataclass(frozen=True)
class FakeSource:
    """Handlers without a model, of which a file says what becomes of them.

    The file has a word for each process in turn: "ready", "refuse" (it cannot load), "die" (while it loads). Requests
    have a stream of ``events``, or one without an end.
    """

    file: Path
    events: int | None = 3

    def handlers(self, threads: int, folder: Path | None) -> Handlers:
        words = self.file.read_text().split() if self.file.exists() else []
        self.file.write_text(" ".join(words[1:]))
        if words[:1] == ["die"]:
            os.kill(os.getpid(), signal.SIGKILL)
        if words[:1] == ["refuse"]:
            raise BundleError("there is no bundle; give another one")
        handlers: Any = FakeHandlers()
        handlers.observer = Metrics(handlers.models_)
        handlers.work = Stream([{"text": "a"}] * (self.events or 1), endless=self.events is None)
        return cast(Handlers, handlers)
