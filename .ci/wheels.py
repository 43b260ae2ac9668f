"""Checks what `python -m build` made: a pure wheel that a registry takes, and a source distribution without figures.

python .ci/wheels.py FOLDER   # with the one wheel and the one source distribution
"""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path

LARGEST = 16_000_000  # bytes of the wheel
PACKAGES = {"neort", "neort_export", "neort_models"}
LEFT_OUT = "benchmarks/results/"


def main(folder: Path) -> str | None:
    """What is wrong, in a sentence; None where nothing is."""
    (wheel,), (source,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    if not wheel.name.endswith("-py3-none-any.whl"):
        return f"{wheel.name} is not for every Python and system: it must end in -py3-none-any.whl"
    if wheel.stat().st_size > LARGEST:
        return (
            f"{wheel.name} has {wheel.stat().st_size:,} bytes; it must have at most {LARGEST:,}: bundle a smaller model"
        )
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
    if tops != PACKAGES:
        return f"{wheel.name} holds {', '.join(sorted(tops))}; it must hold {', '.join(sorted(PACKAGES))}"
    if compiled := [name for name in names if name.endswith((".so", ".pyd", ".dylib", ".dll"))]:
        return f"{wheel.name} holds {compiled[0]}, which is for one system only"
    with tarfile.open(source) as archive:
        figures = [name for name in archive.getnames() if LEFT_OUT in name]
    if figures:
        return f"{source.name} holds {figures[0]}; pyproject.toml leaves {LEFT_OUT} out"
    sys.stdout.write(f"{wheel.name}: {wheel.stat().st_size:,} bytes; {source.name}: {source.stat().st_size:,} bytes\n")
    return None


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
