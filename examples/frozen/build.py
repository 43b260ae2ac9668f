"""Packs story.py, Python, neort and a model into one folder, which runs where none of them is installed.

    pip install neort pyinstaller
    python build.py [--bundle FOLDER] [--output dist] [--one-file]

The program is dist/story/story. A computer of the same system and processor runs it: give it the whole folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import PyInstaller.__main__

PROGRAM = Path(__file__).with_name("story.py")
UNNEEDED = [  # no call of neort needs them
    "onnxruntime.transformers",  # imports torch, which comes along where it is installed
    "numpy.testing",  # likewise pytest and hypothesis
    "numpy.f2py",
    "pydoc",
    "ssl",  # the program has no network
]


def main() -> None:
    """Run PyInstaller. neort's own hooks, which it finds by itself, name the files that neort reads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="the model; by default the one that comes with neort")
    parser.add_argument("--output", type=Path, default=Path("dist"), help="the folder for the result")
    parser.add_argument("--one-file", action="store_true", help="one file, which unpacks itself at each start")
    arguments = parser.parse_args()
    options = ["--noconfirm", "--distpath", str(arguments.output), "--workpath", str(arguments.output / "work")]
    options += ["--specpath", str(arguments.output / "work"), "--onefile" if arguments.one_file else "--onedir"]
    unneeded = list(UNNEEDED)
    if arguments.bundle is not None:
        options += ["--add-data", f"{arguments.bundle.resolve()}:bundle"]  # beside story.py, which looks there
        unneeded.append("neort_models")
    for name in unneeded:
        options += ["--exclude-module", name]
    PyInstaller.__main__.run([*options, str(PROGRAM)])


if __name__ == "__main__":
    main()
