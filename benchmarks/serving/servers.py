"""Starts a server in a process of its own, asks whether it works, and reads what it holds.

`neort serve` is this checkout's; llama.cpp's is a `llama-server` that was built before, vLLM's was installed before.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .client import Address, ask

__all__ = ["VLLM_ENVIRONMENT", "Held", "Server", "llama_command", "neort_command", "vllm_command"]

VLLM_ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "4", "VLLM_NO_USAGE_STATS": "1"}
STARTING, ENDING = 300.0, 60.0  # seconds
RUNNING, WAITING, CACHED = "neort:num_requests_running", "neort:num_requests_waiting", "neort:kv_cache_bytes"


@dataclass(frozen=True)
class Held:
    """What a process holds; -1 where the system or the server does not tell."""

    resident_mb: float
    files: int
    threads: int
    running: float
    waiting: float
    cache_bytes: float


def neort_command(bundle: Path | None, options: Sequence[str] = ()) -> list[str]:
    """`neort serve` of a bundle, or of the bundled model."""
    return [sys.executable, "-m", "neort", "serve", *([str(bundle)] if bundle else []), "--port", "PORT", *options]


def llama_command(binary: Path, file: Path, slots: int, context: int, threads: int) -> list[str]:
    """llama.cpp's server with so many slots of ``context`` tokens each."""
    settings = {
        "-m": file, "--host": "127.0.0.1", "--port": "PORT", "-np": slots, "-c": slots * context, "-t": threads,
        "-tb": threads, "--cache-ram": 0,
    }  # fmt: skip
    return [str(binary), *(str(part) for pair in settings.items() for part in pair), "--no-webui"]


def vllm_command(binary: Path, checkpoint: Path, slots: int, context: int) -> list[str]:
    """vLLM's server, under the model name that the others do not ask for either, with so many slots."""
    settings = {
        "--host": "127.0.0.1", "--port": "PORT", "--max-num-seqs": slots, "--max-model-len": context,
        "--dtype": "float32", "--served-model-name": "model",
    }  # fmt: skip
    return [str(binary), "serve", str(checkpoint), *(str(part) for pair in settings.items() for part in pair)]


class Server:
    """A running server. A context manager, which ends the process."""

    def __init__(self, command: Sequence[str], environment: dict[str, str] | None = None, *, log: Path) -> None:
        """``PORT`` in the command becomes a free port. Raises RuntimeError where the server does not get ready."""
        self.address = Address("127.0.0.1", free_port())
        self.command = [str(self.address.port) if part == "PORT" else part for part in command]
        self.log = log
        began = time.perf_counter()
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                self.command,
                stdout=file,
                stderr=file,
                env={**os.environ, **(environment or {})},
                start_new_session=True,  # so that what it starts can be ended with it
            )
        try:
            asyncio.run(self._ready())
        except BaseException:
            self.kill()
            raise
        self.start_seconds = time.perf_counter() - began

    @property
    def url(self) -> str:
        return f"http://{self.address.host}:{self.address.port}"

    async def _ready(self) -> None:
        until = time.perf_counter() + STARTING
        while (await ask(self.address, "/health")).status != 200:
            if self.process.poll() is not None or time.perf_counter() > until:
                raise RuntimeError(f"{self.command[0]} is not ready (status {self.process.poll()}); see {self.log}")
            await asyncio.sleep(0.1)

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """The JSON of one answer. Raises RuntimeError for another status than 200."""
        found = asyncio.run(ask(self.address, path, body))
        if found.status != 200 or found.failure:
            raise RuntimeError(f"{path} answered {found.status} ({found.failure}): {found.body[:200]!r}")
        return json.loads(found.body)

    def held(self) -> Held:
        """What the process holds now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        numbers = {key: int(value) for key, value in re.findall(r"^(VmRSS|Threads):\s*(\d+)", status, re.MULTILINE)}
        files = len(os.listdir(f"/proc/{self.process.pid}/fd"))
        figures = self.metrics()
        slots = (figures.get(name, -1.0) for name in (RUNNING, WAITING, CACHED))
        return Held(round(numbers["VmRSS"] / 1024, 1), files, numbers["Threads"], *slots)

    def metrics(self) -> dict[str, float]:
        """Prometheus's figures, summed over their labels."""
        found = asyncio.run(ask(self.address, "/metrics"))
        figures: dict[str, float] = {}
        for line in found.body.decode().splitlines() if found.status == 200 else ():
            if not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                key = name.partition("{")[0]
                figures[key] = figures.get(key, 0.0) + float(value)
        return figures

    def end(self) -> int:
        """Tell it to end, as a supervisor does, and wait. Returns its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(ENDING)

    def kill(self) -> None:
        """End it at once, with all that it has started: vLLM's processes outlive it."""
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.kill()
        self.process.wait()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
