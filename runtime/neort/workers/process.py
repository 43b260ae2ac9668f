"""Worker processes: started on CPUs of their own, spoken to by a pipe, and ended with the process that started them.

They are spawned, not forked: onnxruntime's threads do not come along in a fork, and not every system has one.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import resource_tracker
from typing import Any

from ..errors import EngineError
from .child import SIGNALS, run_child

__all__ = ["Worker", "ending_in_words"]

CONTEXT = multiprocessing.get_context("spawn")


class Worker:
    """A running process that was started to work.

    Attributes:
        number: which of the workers it is, from 0 on.
        pipe: by which it is spoken to; its end means that of the process.
    """

    def __init__(
        self, number: int, work: Callable[..., object], arguments: tuple[Any, ...], cpus: Sequence[int] | None
    ) -> None:
        """Start it: it does ``work(parent, *arguments)``, a function of a module, bound to ``cpus`` if there are any.

        Raises EngineError where the system starts no process.
        """
        self.number = number
        try:
            self.pipe, theirs = CONTEXT.Pipe()
            self._process = CONTEXT.Process(
                target=run_child, args=(work, theirs, number, arguments), name=f"neort-worker-{number}", daemon=True
            )
            try:
                if os.name == "posix":
                    resource_tracker.ensure_running()  # which it would start on these CPUs, and unblock signals
                with _blocked_signals(), _bound(cpus):
                    self._process.start()
            except BaseException:  # a signal's, too: by the pipe's end a process that was started ends
                self.pipe.close()
                raise
            finally:
                theirs.close()
        except OSError as error:
            raise EngineError(
                f"the system starts no further process ({error.strerror or error}); give fewer --workers, or allow more"
            ) from error

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status, that of a signal below 0; None while it runs."""
        return self._process.exitcode

    def tell(self, *message: Any) -> None:
        """Send a message. One that has ended does not get it: its pipe says so."""
        with contextlib.suppress(OSError):
            self.pipe.send(message)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for its end, and say whether it has come."""
        self._process.join(seconds)
        return self._process.exitcode is not None

    def kill(self) -> None:
        """End it now."""
        self._process.kill()

    def close(self) -> None:
        """Give back what is held of one that has ended."""
        self.pipe.close()

    def __str__(self) -> str:
        return f"worker {self.number} (process {self.pid})"


def ending_in_words(status: int | None) -> str:
    """How a process ended: "was ended by SIGKILL", "ended with exit status 1"."""
    if status is None or status >= 0:
        return f"ended with exit status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


@contextlib.contextmanager
def _blocked_signals() -> Iterator[None]:
    """Let a process that is started within the block begin with signals blocked, until it ignores them.

    Else Ctrl-C, which a terminal sends to all, would end it in the middle of its imports, with a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    numbers = {getattr(signal, name) for name in SIGNALS if hasattr(signal, name)}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _bound(cpus: Sequence[int] | None) -> Iterator[None]:
    """Let this thread run on some CPUs within the block: what it starts inherits that, with all of its threads."""
    if cpus is None:
        yield
        return
    before = os.sched_getaffinity(0)
    with contextlib.suppress(OSError):  # they were taken away meanwhile: it is not bound
        os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, before)
