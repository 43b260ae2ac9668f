"""What a worker's process does before its own work: it follows its parent, not the signals of a terminal."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

__all__ = ["Parent", "run_child"]

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
STDOUT, STDERR = 1, 2
ORPHANED, FAULT = 3, 1  # exit statuses


class Parent:
    """The process that started this one. Where it ends, this one does at once, whatever it is doing."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe = pipe
        self._writing = threading.Lock()

    def tell(self, *message: Any) -> None:
        """Send a message; any thread may."""
        try:
            with self._writing:
                self.pipe.send(message)
        except OSError:
            os._exit(ORPHANED)

    def listen(self, take: Callable[[tuple[Any, ...]], object]) -> None:
        """Let ``take`` have each message of the parent, from now on, in a thread of its own."""
        threading.Thread(target=self._listen, args=(take,), name="neort-parent", daemon=True).start()

    def messages(self) -> SimpleQueue[tuple[Any, ...]]:
        """The parent's messages from now on."""
        queue: SimpleQueue[tuple[Any, ...]] = SimpleQueue()
        self.listen(queue.put)
        return queue

    def _listen(self, take: Callable[[tuple[Any, ...]], object]) -> None:
        try:
            while True:
                take(self.pipe.recv())
        except (EOFError, OSError):
            os._exit(ORPHANED)
        except BaseException:  # nobody would hear the parent any more
            traceback.print_exc()
            os._exit(FAULT)


def run_child(work: Callable[..., object], pipe: Connection, number: int, arguments: tuple[Any, ...]) -> None:
    """Do a worker's ``work`` on its `Parent` and the arguments; what it raises ends the process with its traceback."""
    _ignore_signals()
    with contextlib.suppress(OSError):
        os.dup2(STDERR, STDOUT)  # standard output is for the parent's results
    sys.stdout = sys.stderr
    if number == 0:
        warnings.formatwarning = lambda message, *_, **__: f"neort: {message}\n"
    else:
        warnings.simplefilter("ignore")  # the first worker says it
    work(Parent(pipe), *arguments)


def _ignore_signals() -> None:
    """Leave signals to the parent: a terminal sends Ctrl-C, and a service manager SIGTERM, to all processes."""
    numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)  # see `process`, which blocked them
