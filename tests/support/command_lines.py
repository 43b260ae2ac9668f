"""Runs the command lines of a page in this process: neort itself, echo and cat, with pipes and redirections.

No shell takes part, so that a page runs alike on every system.
"""

from __future__ import annotations

import contextlib
import functools
import io
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

from neort.cli import main

__all__ = ["check_usage", "run_line"]

FLAG = re.compile(r"(?<![\w-])--?[a-z][a-z-]*(?![\w-])")
LOOK_ONLY = ("info", "verify")  # commands that change nothing


def run_line(line: str, left_out: Sequence[str] = ()) -> str:
    """Run a line of commands joined by ``&&`` in the current folder; return what they print.

    Commands that begin with one of ``left_out`` are not run. Raises AssertionError for one that fails, ValueError for
    one that is unknown.
    """
    return "".join(
        _run_pipeline(pipeline) for pipeline in _split(_words(line), "&&") if not _begins(pipeline, left_out)
    )


def check_usage(line: str) -> None:
    """Compare the flags of a line's neort and neort-export commands, which are not run, with what their help lists.

    Raises AssertionError for a flag or a command that does not exist.
    """
    for pipeline in _split(_words(line), "&&"):
        for words in _split(pipeline, "|"):
            if words[0] in ("neort", "neort-export"):
                known = set(FLAG.findall(_help(words[0], words[1])))
                unknown = [word for word in words[1:] if FLAG.fullmatch(word) and word not in known]
                assert not unknown, f"{words[0]} {words[1]} has no {', '.join(unknown)}"


@functools.cache
def _help(program: str, command: str) -> str:
    run = main
    if program == "neort-export":
        from neort_export.cli import main as run

        command = command if command in ("export", "verify", "push") else "export"
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):  # without an output for a wrong command
        run([command, "--help"])
    assert output.getvalue(), f"{program} has no command {command}"
    return output.getvalue()


def _words(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    return list(lexer)


def _begins(words: list[str], left_out: Sequence[str]) -> bool:
    return any(words[: len(beginning.split())] == beginning.split() for beginning in left_out)


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
