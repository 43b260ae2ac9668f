"""Where the benchmarks lie; files that appear whole, and what files weigh."""

from __future__ import annotations

from pathlib import Path

from neort.files import published_file

__all__ = ["RESULTS", "ROOT", "folder_bytes", "read_through", "write_whole"]

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
READ_BYTES = 1 << 24


def write_whole(file: Path, content: str) -> None:
    """Write a text file that is there as a whole or as it was before."""
    with published_file(file) as stream:
        stream.write(content.encode("utf-8"))


def read_through(file: Path) -> None:
    """Read a file to its end, so that it is in the page cache."""
    with file.open("rb", buffering=0) as stream:
        while stream.read(READ_BYTES):
            pass


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
