"""A thread that loads a model and writes texts, for a program whose own thread must never wait. Knows no window."""

from __future__ import annotations

import queue
import threading
from typing import Literal

import neort

Kind = Literal["ready", "piece", "end", "failed"]
OPTIONS = neort.GenerationConfig(
    max_new_tokens=200, do_sample=True, temperature=0.8, top_p=0.95, overflow="truncate_left"
)


class Writer(threading.Thread):
    """Loads a model, then continues texts, one at a time.

    Attributes:
        events: what happened, in its order: "ready" once the model is there; for each text its "piece"s and its "end",
            or what "failed", in a sentence.
    """

    def __init__(self, bundle: str | None = None) -> None:
        """``bundle`` is the model's folder; None is the model that comes with neort."""
        super().__init__(name="writer")
        self.events: queue.SimpleQueue[tuple[Kind, str]] = queue.SimpleQueue()
        self._bundle = bundle
        self._texts: queue.SimpleQueue[tuple[str, threading.Event] | None] = queue.SimpleQueue()
        self._stopped = threading.Event()  # for the last text

    def write(self, text: str) -> None:
        """Continue a text. Never waits."""
        self._stopped = threading.Event()
        self._texts.put((text, self._stopped))

    def stop(self) -> None:
        """End the last text after the token that is being computed. Never waits."""
        self._stopped.set()

    def close(self) -> None:
        """End the text, and the thread. Never waits; `join` does."""
        self.stop()
        self._texts.put(None)

    def run(self) -> None:
        """What the thread does."""
        try:
            model = neort.load(self._bundle)
        except neort.NeortError as error:
            self.events.put(("failed", str(error)))
            return
        self.events.put(("ready", ""))
        while (order := self._texts.get()) is not None:
            self._continue(model, *order)

    def _continue(self, model: neort.Model, text: str, stopped: threading.Event) -> None:
        try:  # leaving the loop ends the sequence
            for piece in model.stream(text, OPTIONS):
                if stopped.is_set():
                    break
                self.events.put(("piece", piece.text))
        except neort.NeortError as error:
            self.events.put(("failed", str(error)))
        else:
            self.events.put(("end", ""))
