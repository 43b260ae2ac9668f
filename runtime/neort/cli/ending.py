"""How a command ends: its exit status, what is said about it, and signals that end it cleanly.

SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt in the main thread, so that half-written files go; a second one ends
the process at once.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

from ..errors import NeortError
from ..starting import end_at_once
from .streams import Output, ReaderGoneError, standard_streams, tell

__all__ = ["EXIT_STATUS", "run_command"]

FAILED = 1
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
READER_GONE = 141  # 128 + SIGPIPE, as shells have it
EXIT_STATUS = """\
exit status:
  0    done
  1    an error, or a check that failed
  2    wrong usage
  129  ended by SIGHUP; 130 by Ctrl-C; 143 by SIGTERM
  141  who reads standard output has gone"""


class EndedError(KeyboardInterrupt):
    """A signal that ends the command."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def run_command(
    name: str, command: Callable[[Output], int], *, last: bool, left: Callable[[], str] = lambda: ""
) -> int:
    """Run a command and return its exit status; errors are told on standard error in one sentence.

    Only errors that neort raises on purpose, and those of memory, become a sentence: any other is a fault of neort, and
    keeps its traceback. ``left`` says what an interruption has left; ``last`` that the process ends with the command.
    """
    received: list[int] = []
    try:
        with _signals(received, last=last), standard_streams(last=last) as output, _plain_warnings(name):
            try:
                return _run(command, output)
            except Exception as error:
                if received:  # an interrupted library may raise anything
                    return _interrupted(name, received[0], left())
                return _failed(name, error)
            except KeyboardInterrupt:
                return _interrupted(name, received[0] if received else signal.SIGINT, left())
    except EndedError as error:  # while the streams were prepared or restored
        return 128 + error.number


def _run(command: Callable[[Output], int], output: Output) -> int:
    try:
        return command(output)
    except SystemExit as end:
        if not end.code:  # --help and --version, which argparse writes
            output.write("")
        raise


def _failed(name: str, error: Exception) -> int:
    if isinstance(error, ReaderGoneError):
        return READER_GONE
    if isinstance(error, NeortError):
        tell(f"{name}: {error}")
    elif isinstance(error, MemoryError):
        tell(f"{name}: the system gives no more memory ({error or 'MemoryError'}); end other programs, or do less")
    else:
        raise error
    return FAILED


def _interrupted(name: str, number: int, left: str) -> int:
    how = "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
    if number == signal.SIGINT:
        tell("")  # after the ^C of a terminal
    if left or number != signal.SIGINT:
        tell(f"{name}: {how}; {left}" if left else f"{name}: {how}")
    return 128 + number


@contextlib.contextmanager
def _plain_warnings(name: str) -> Iterator[None]:
    """Let a warning be a sentence of the command's, without the line of the source that it comes from."""
    before = warnings.formatwarning
    warnings.formatwarning = lambda message, *_, **__: f"{name}: {message}\n"
    try:
        yield
    finally:
        warnings.formatwarning = before


@contextlib.contextmanager
def _signals(received: list[int], *, last: bool) -> Iterator[None]:
    """Raise EndedError for signals that would end the process otherwise; what is ignored stays so."""
    before: dict[int, Any] = {}

    def end(number: int, _: FrameType | None) -> NoReturn:
        received.append(number)
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        raise EndedError(number)

    if threading.current_thread() is threading.main_thread():
        for name in SIGNALS:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) in DEFAULTS:
                before[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if last else handler)


DEFAULTS = (signal.SIG_DFL, signal.default_int_handler, end_at_once)
