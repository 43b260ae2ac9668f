"""The desktop example: its writer without a window, and its window where there is a display to show it."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import neort
from example_files import EXAMPLES, loaded
from neort.arrays import Ids, Logits
from patience import PATIENCE

TEXT = "It was a dark night and"


@pytest.fixture
def writer_module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXAMPLES / "desktop"))
    return loaded("desktop/writer.py")


@pytest.fixture
def writer(writer_module: ModuleType, bundle_path: Path) -> Iterator[Any]:
    """A writer that has its model; its thread has ended afterwards."""
    found = writer_module.Writer(str(bundle_path))
    found.start()
    assert found.events.get(timeout=PATIENCE) == ("ready", "")
    yield found
    found.close()
    found.join(PATIENCE)
    assert not found.is_alive()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models that write few tokens, and always the same."""
    monkeypatch.setattr(neort.Model, "stream", functools.partialmethod(neort.Model.stream, seed=7, max_new_tokens=20))


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models that need seconds for a whole text, and end none early."""

    def wait(_: Ids, logits: Logits) -> Logits:
        time.sleep(0.01)
        return np.asarray(logits)

    slowly = functools.partialmethod(neort.Model.stream, logits_processor=[wait], min_new_tokens=200)
    monkeypatch.setattr(neort.Model, "stream", slowly)


def events(writer: Any) -> list[tuple[str, str]]:
    """What happens until a text ends or fails."""
    found = [writer.events.get(timeout=PATIENCE)]
    while found[-1][0] == "piece":
        found.append(writer.events.get(timeout=PATIENCE))
    return found


@pytest.mark.usefixtures("short")
def test_a_text_comes_in_pieces_and_ends(writer: Any, writer_module: ModuleType, model: neort.Model) -> None:
    writer.write(TEXT)
    *pieces, last = events(writer)
    assert [text for _, text in pieces] == [piece.text for piece in model.stream(TEXT, writer_module.OPTIONS)]
    assert last == ("end", "")


@pytest.mark.usefixtures("slow")
def test_a_text_that_is_stopped_ends_and_the_next_one_does_not(writer: Any) -> None:
    writer.write(TEXT)
    assert writer.events.get(timeout=PATIENCE)[0] == "piece"
    writer.stop()
    assert len(events(writer)) < 150  # of 200 tokens
    writer.write(TEXT)
    assert writer.events.get(timeout=PATIENCE)[0] == "piece"


@pytest.mark.usefixtures("slow")
def test_a_writer_is_closed_in_the_middle_of_a_text(writer: Any) -> None:
    writer.write(TEXT)
    assert writer.events.get(timeout=PATIENCE)[0] == "piece"
    writer.close()
    writer.join(PATIENCE)
    assert len(events(writer)) < 150


@pytest.mark.usefixtures("short")
def test_what_fails_is_said_and_the_writer_goes_on(writer: Any) -> None:
    writer.write("")
    ((kind, sentence),) = events(writer)
    assert kind == "failed"
    assert "empty" in sentence
    writer.write(TEXT)
    assert events(writer)[-1] == ("end", "")


def test_a_model_that_cannot_be_loaded_ends_the_writer(writer_module: ModuleType, tmp_path: Path) -> None:
    found = writer_module.Writer(str(tmp_path))
    found.start()
    found.join(PATIENCE)
    kind, sentence = found.events.get_nowait()
    assert kind == "failed"
    assert str(tmp_path) in sentence


@pytest.fixture(scope="module")
def display() -> Iterator[None]:
    """A display: the one that there is, or one that nobody sees."""
    pytest.importorskip("tkinter", reason="this Python has no tkinter")
    if os.environ.get("DISPLAY") or os.name == "nt":
        yield
        return
    xvfb = shutil.which("Xvfb")
    if xvfb is None:
        pytest.skip("needs a display, or Xvfb")
    command = [xvfb, "-displayfd", "1", "-screen", "0", "1024x768x24", "-nolisten", "tcp"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DISPLAY", f":{server.stdout.readline().strip()}")
            yield
        server.terminate()


class Session:
    """A person at the window: looks every few milliseconds, and does the next thing once it can be done."""

    def __init__(self, root: Any, steps: list[Any]) -> None:
        self.root, self.steps = root, steps
        self.deadline = time.monotonic() + PATIENCE
        root.after(5, self.look)

    def look(self) -> None:
        if self.steps[0]():
            self.steps.pop(0)
        if self.steps and time.monotonic() < self.deadline:
            self.root.after(5, self.look)
        elif self.steps:
            self.root.destroy()


@pytest.mark.usefixtures("display", "slow")
def test_a_window_writes_stops_and_closes_in_the_middle_of_a_text(
    writer_module: ModuleType, bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = loaded("desktop/app.py")
    seen: list[str] = []
    windows: list[Any] = []

    class Watched(app.Window):  # type: ignore[misc,name-defined]
        def __init__(self, root: Any, writer: Any) -> None:
            super().__init__(root, writer)
            windows.append(self)

            def shown() -> str:
                return str(self.text.get("1.0", "end-1c"))

            def press(button: str) -> bool:
                ready = str(getattr(self, button)["state"]) == "normal"
                if ready:
                    seen.append(shown())
                    getattr(self, button).invoke()
                return ready

            def grown() -> bool:
                return len(shown()) > len(seen[-1]) + 10

            def close() -> bool:
                seen.append(shown())
                root.destroy()
                return True

            steps = [lambda: press("go_on"), grown, lambda: press("stop"), lambda: press("go_on"), grown, close]
            Session(root, steps)

    monkeypatch.setattr(app, "Window", Watched)
    app.main(str(bundle_path))  # until the window is closed; the writer has ended then
    assert not windows[0].writer.is_alive()
    first, stopped, again, closed = seen
    assert first == TEXT
    assert stopped.startswith(first)
    assert again.startswith(stopped)
    assert closed.startswith(again)
    assert len(closed) > len(again) + 10
