"""The standard streams, closed, full, of any encoding, and text that comes from the command line.

What a command has to say goes through an `Output`: nothing that a library prints gets in between. Text that a stream's
encoding lacks is written with backslashes; JSON is JSON in any encoding.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import json
import os
import re
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from ..errors import PromptError, StorageError
from ..wording import is_utf8, shortened

__all__ = ["Output", "ReaderGoneError", "read_input", "standard_streams", "tell", "utf8_argument"]

ESCAPED = "backslashreplace"
BYTE_ORDER_MARK = "\ufeff"
LONGEST_INPUT = 16 << 20  # characters: more than any context holds
STDOUT, STDERR = 1, 2


class ReaderGoneError(Exception):
    """Who reads standard output, `head` say, has seen enough."""


class Output:
    """Standard output, for what a command says."""

    def __init__(self, stream: TextIO | None, *, last: bool) -> None:
        """``stream`` is None where it is closed; ``last`` says that the process ends with the command."""
        self._stream = stream
        self._last = last

    def write(self, text: str) -> None:
        """Write text at once. Raises StorageError where it cannot be written, ReaderGoneError where nobody reads it."""
        stream = self._opened()
        try:
            stream.write(text)
            stream.flush()
        except OSError as error:
            _drop(stream)
            if isinstance(error, BrokenPipeError) or (os.name == "nt" and error.errno == errno.EINVAL):
                raise ReaderGoneError from None
            raise StorageError(
                f"standard output cannot be written to ({error.strerror or error}); what was printed is not complete",
                error,
            ) from None

    @property
    def is_terminal(self) -> bool:
        """Whether a person sees what is written as it is written."""
        return self._stream is not None and self._stream.isatty()

    def line(self, text: str) -> None:
        """Write a line; raises what `write` does."""
        self.write(f"{text}\n")

    def json(self, value: object, *, indent: int | None = None) -> None:
        """Write a line, or indented lines, of JSON, which is UTF-8 or ASCII; raises what `write` does."""
        try:
            text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
        except ValueError:  # numbers that JSON has no word for
            value = json.loads(json.dumps(value), parse_constant=lambda _: None)
            text = json.dumps(value, indent=indent, ensure_ascii=False)
        encoding = getattr(self._opened(), "encoding", None) or "utf-8"
        if codecs.lookup(encoding).name != "utf-8" or not is_utf8(text):
            text = json.dumps(value, indent=indent)
        self.line(text)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Send to standard error whatever else is printed within the block, by C libraries too.

        Raises StorageError where standard output is closed.
        """
        named = self._opened()
        sys.stdout = sys.stderr
        try:
            if _handle(named) == STDOUT and _handle(sys.stderr) == STDERR:
                with self._private(named):
                    yield
            else:
                yield
        finally:
            sys.stdout = named

    @contextlib.contextmanager
    def _private(self, named: TextIO) -> Iterator[None]:
        named.flush()
        handle = os.dup(STDOUT)
        with open(handle, "w", encoding=named.encoding, errors=ESCAPED) as self._stream:
            os.dup2(STDERR, STDOUT)
            try:
                yield
            finally:
                if not self._last:  # else what C libraries still hold back would follow
                    os.dup2(handle, STDOUT)
        self._stream = named

    def _opened(self) -> TextIO:
        if self._stream is None:
            raise StorageError(f"standard output is closed; send it to a file, or to {os.devnull}")
        return self._stream


@contextlib.contextmanager
def standard_streams(*, last: bool) -> Iterator[Output]:
    """Prepare the streams for any text, and end without complaint where what they hold cannot be written."""
    stdout, stderr = sys.stdout, sys.stderr
    with contextlib.ExitStack() as stack:
        if stderr is None:
            sys.stderr = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
        if isinstance(stdout, io.TextIOWrapper):
            stack.callback(_reconfigure, stdout, stdout.errors)
            _reconfigure(stdout, ESCAPED)
        try:
            yield Output(stdout, last=last)
        finally:
            for stream in (stdout, sys.stderr):
                _settle(stream)
            sys.stderr = stderr


def tell(sentence: str, *, end: str = "\n") -> None:
    """Say something on standard error, if it can be said."""
    try:
        print(sentence, file=sys.stderr, end=end, flush=True)
    except (OSError, ValueError):
        _drop(sys.stderr)


def read_input() -> str:
    """Standard input as text, without the byte order mark that a file may begin with.

    Raises PromptError where it is closed, unreadable, not in UTF-8 or endless.
    """
    if sys.stdin is None:
        raise PromptError("standard input is closed, and a prompt of - is read from there; give a file with < FILE")
    if isinstance(sys.stdin, io.TextIOWrapper):
        # What comes from a file or a pipe is UTF-8 in every locale; a terminal may have an encoding of its own.
        own = sys.stdin.isatty() and codecs.lookup(sys.stdin.encoding).name != "ascii"
        sys.stdin.reconfigure(encoding=sys.stdin.encoding if own else "utf-8", errors="strict")
    try:
        text = sys.stdin.read(LONGEST_INPUT + 1)
    except UnicodeDecodeError as error:
        raise PromptError(
            f"standard input is no {error.encoding} text (it holds a byte 0x{error.object[error.start]:02x}); convert "
            "it, with iconv say"
        ) from None
    except OSError as error:
        raise PromptError(
            f"standard input cannot be read ({error.strerror or error}); give a file with < FILE"
        ) from None
    if len(text) > LONGEST_INPUT:
        raise PromptError(f"standard input has more than {LONGEST_INPUT:,} characters, more than a prompt may; cut it")
    return text.removeprefix(BYTE_ORDER_MARK)


def utf8_argument(text: str, what: str) -> str:
    """An argument as the text that its bytes are in UTF-8, whatever the locale. Raises PromptError if they are none."""
    if is_utf8(text):
        return text
    try:
        return os.fsencode(text).decode("utf-8")
    except UnicodeError:
        raise PromptError(
            f"{what} {_with_bytes(text)} has bytes that are no UTF-8; convert it, with iconv say, or set LC_ALL to "
            "its encoding"
        ) from None


def _with_bytes(text: str) -> str:
    """An argument for a message: a byte that is no character as \\xe9, where Python has a lone surrogate for it."""
    return re.sub(r"\\udc([89a-f][0-9a-f])", r"\\x\1", shortened(text))


def _reconfigure(stream: io.TextIOWrapper, errors: str | None) -> None:
    with contextlib.suppress(OSError):  # a device that cannot say where it is
        stream.reconfigure(errors=errors)


def _settle(stream: Any) -> None:
    """Leave nothing for the interpreter's last flush."""
    if stream is not None:
        try:
            stream.flush()
        except (OSError, ValueError):
            _drop(stream)


def _handle(stream: Any) -> int | None:
    try:
        return int(stream.fileno())
    except (AttributeError, OSError, ValueError):
        return None


def _drop(stream: Any) -> None:
    """Let what a stream still holds go nowhere, so that the interpreter's last flush succeeds."""
    handle = _handle(stream)
    if handle is not None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, handle)
        os.close(nowhere)
