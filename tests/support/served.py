"""A real `neort serve` of the bundled model in a process of its own, and plain requests to it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from releases import QUIET

__all__ = ["Served", "serving", "started"]

ADDRESS = re.compile(r"http://[^\s/]+")


@dataclass(frozen=True)
class Served:
    """A server that runs."""

    process: subprocess.Popen[str]
    url: str
    model: str
    prefixes: Path

    @property
    def base_url(self) -> str:
        """What OpenAI's clients are given."""
        return f"{self.url}/v1"

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        """The answer to a request. Raises urllib.error.HTTPError for one that is refused."""
        with self._open(path, body) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def complete(self, prompt: Any, **options: Any) -> dict[str, Any]:
        """The answer of POST /v1/completions."""
        return self.post("/v1/completions", prompt=prompt, **options)

    def texts(self, prompt: Any, **options: Any) -> list[str]:
        """The texts of all choices."""
        return [choice["text"] for choice in self.complete(prompt, **options)["choices"]]

    def refusal(self, path: str, **body: Any) -> tuple[int, dict[str, Any]]:
        """The status and the error of a request that is refused."""
        try:
            answer = self.post(path, **body)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)["error"]
        raise AssertionError(f"it was answered with {answer}")

    def events(self, prompt: Any, **options: Any) -> list[dict[str, Any]]:
        """All events of a streamed answer, without the last one, which is [DONE]."""
        with self._open("/v1/completions", {"prompt": prompt, "stream": True} | options) as answer:
            data = [line[6:].strip() for line in answer if line.startswith(b"data: ")]
        assert data[-1] == b"[DONE]"
        return [json.loads(each) for each in data[:-1]]

    def get(self, path: str) -> Any:
        """The JSON, or the text, of a GET."""
        with urllib.request.urlopen(self.url + path) as answer:
            content = answer.read().decode("utf-8")
            return json.loads(content) if "json" in answer.headers["Content-Type"] else content

    def metric(self, name: str) -> float:
        """One of Prometheus's figures, summed over its labels."""
        lines = [line for line in self.get("/metrics").splitlines() if re.match(rf"{re.escape(name)}[{{ ]", line)]
        assert lines, name
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def _open(self, path: str, body: dict[str, Any]) -> Any:
        head = {"Content-Type": "application/json"}
        return urllib.request.urlopen(urllib.request.Request(self.url + path, json.dumps(body).encode(), head))


@contextlib.contextmanager
def started(arguments: Sequence[str], log: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run Python until it is left: the process, and the first line that it prints. Errors go to ``log``."""
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, *QUIET, *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
    with process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline()
        finally:
            process.kill()


@contextlib.contextmanager
def serving(folder: Path, *options: str) -> Iterator[Served]:
    """Run `neort serve --port 0` with further options until it is left. ``folder`` is for prefixes and the log."""
    prefixes = folder / "prefixes"
    prefixes.mkdir(exist_ok=True)
    command = ["-m", "neort", "serve", "--port", "0", "--num-threads", "2", "--prefix-folder", str(prefixes)]
    with started([*command, *options], folder / "log") as (process, line):
        found = ADDRESS.search(line)
        assert found is not None, f"{line!r}; it said: {(folder / 'log').read_text('utf-8')[-2000:]}"
        served = Served(process, found.group(), "", prefixes)
        yield Served(process, served.url, served.get("/v1/models")["data"][0]["id"], prefixes)
