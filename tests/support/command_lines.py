"""Runs the command lines of a page in this process: neort itself, echo and cat, with pipes and redirections.

No shell takes part, so that a page runs alike on every system.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import shlex
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from neort.cli import main
from neort.cli.main import parse_args

__all__ = ["check_usage", "run_line"]

LOOK_ONLY = ("info", "verify")  # commands that change nothing


def run_line(line: str, left_out: str = "") -> str:
    """Run a line of commands joined by ``&&`` in the current folder; return what they print.

    Commands that begin with ``left_out`` are not run. Raises AssertionError for one that fails, ValueError for one that
    is unknown.
    """
    return "".join(
        _run_pipeline(pipeline) for pipeline in _split(_words(line), "&&") if not _begins(pipeline, left_out)
    )


def check_usage(line: str) -> None:
    """Parse the neort and neort-export commands of a line, which are not run. Fails where they are none."""
    for pipeline in _split(_words(line), "&&"):
        for words in _split(pipeline, "|"):
            if words[0] == "neort":
                parse_args(words[1:], argparse.Namespace())
            elif words[0] == "neort-export":
                from neort_export.cli.main import parse_args as parse_export_args

                parse_export_args(words[1:])


def _words(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    return list(lexer)


def _begins(words: list[str], left_out: str) -> bool:
    return bool(left_out) and words[: len(left_out.split())] == left_out.split()


def _split(words: list[str], separator: str) -> Iterator[list[str]]:
    part: list[str] = []
    for word in [*words, separator]:
        if word == separator:
            yield part
            part = []
        else:
            part.append(word)


def _run_pipeline(words: list[str]) -> str:
    text = ""
    for part in _split(words, "|"):
        unread, source = _without(part, "<")
        command, target = _without(unread, ">")
        text = _run(command, Path(source).read_text(encoding="utf-8") if source else text)
        if target:
            Path(target).write_text(text, encoding="utf-8")
            text = ""
    return text


def _without(words: list[str], sign: str) -> tuple[list[str], str]:
    """The words without a redirection, and its file; an empty name where there is none."""
    if sign not in words:
        return words, ""
    at = words.index(sign)
    return words[:at] + words[at + 2 :], words[at + 1]


def _run(words: list[str], stdin: str) -> str:
    name, arguments = words[0], words[1:]
    if name == "echo":
        return " ".join(arguments) + "\n"
    if name == "cat":
        return "".join(Path(file).read_text(encoding="utf-8") for file in arguments)
    if name != "neort":
        raise ValueError(f"{name} is no command that a page may run; mark the block as not run, with the reason")
    return (_looked if arguments[0] in LOOK_ONLY else _neort)(tuple(arguments), stdin)


def _neort(arguments: tuple[str, ...], stdin: str) -> str:
    output = io.StringIO()
    with contextlib.redirect_stdout(output), mock.patch("sys.stdin", io.StringIO(stdin)):
        status = main(arguments)
    assert status == 0, f"neort {shlex.join(arguments)} ended with {status}"
    return output.getvalue()


_looked = functools.cache(_neort)  # a bundle is checked once, however many pages say how
