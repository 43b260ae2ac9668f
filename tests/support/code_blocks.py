"""The code blocks of a Markdown page, and what the page says about running them.

A block in ``python`` or ``bash`` is code. A ``text`` block right after it is its output; there, lines may be
broken elsewhere, and a line of three dots stands for anything. What is not run has a comment before the block that
says why:

    <!-- not run: REASON -->
    <!-- not run (pip install): REASON -->        only the commands that begin so; there may be several such lines
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Block", "blocks", "indented_lines", "same_text"]

FENCE = re.compile(r"^(`{3,}|~{3,})\s*(\S*).*$")
MARK = re.compile(r"^<!-- not run(?: \(([^)]+)\))?: (.+) -->$")


@dataclass
class Block:
    """A fenced block; ``line`` is that of its first line of code.

    ``reasons`` say why it is not run, or, for each of ``left_out``, why the commands that begin so are not.
    """

    page: Path
    line: int
    language: str
    code: str
    reasons: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    output: str | None = None

    @property
    def runs(self) -> bool:
        """Whether it is code that is run, in part at least."""
        return self.language in ("python", "bash") and len(self.reasons) == len(self.left_out)

    def commands(self) -> Iterator[str]:
        """The command lines of a bash block: joined where a backslash continues them, without lines of comments."""
        for line in self.code.replace("\\\n", " ").split("\n"):
            if line.strip() and not line.lstrip().startswith("#"):
                yield line.strip()


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in their order."""
    found: list[Block] = []
    lines = page.read_text(encoding="utf-8").split("\n")
    before: list[str] = []  # the last lines that are not empty, since the block before
    number = 0
    while number < len(lines):
        fence = FENCE.match(lines[number])
        if fence is None:
            before += [lines[number]] if lines[number].strip() else []
            number += 1
            continue
        end = next(i for i in range(number + 1, len(lines)) if lines[i].startswith(fence[1]))
        block = Block(page, number + 2, fence[2], "\n".join(lines[number + 1 : end]) + "\n")
        while before and (mark := MARK.match(before[-1])):
            block.reasons += (mark[2],)
            block.left_out += (mark[1],) if mark[1] else ()
            before.pop()
        if block.language == "text" and not before and not block.reasons and found and found[-1].runs:
            found[-1].output = block.code
        found.append(block)
        before, number = [], end + 1
    return found


def indented_lines(page: Path) -> list[int]:
    """The numbers of lines that begin a block of code without a fence, which nothing would run."""
    lines, fence, found = page.read_text(encoding="utf-8").split("\n"), "", []
    for number, line in enumerate(lines, 1):
        if fence:
            fence = "" if line.startswith(fence) else fence
        elif opening := FENCE.match(line):
            fence = opening[1]
        elif line.startswith("    ") and number > 1 and not lines[number - 2].strip():
            found.append(number)
    return found


def same_text(printed: str, shown: str) -> bool:
    """Whether a text is the one that a page shows, where lines may be broken elsewhere and three dots are any words."""
    parts = [re.escape(" ".join(part.split())) for part in re.split(r"^\.\.\.$", shown, flags=re.MULTILINE)]
    return re.fullmatch(" ?.* ?".join(parts), " ".join(printed.split())) is not None
