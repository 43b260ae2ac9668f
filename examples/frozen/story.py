"""Continues a text, for people who have neither Python nor neort: build.py packs it with both and a model.

python story.py TEXT [NEW_TOKENS]
"""

from __future__ import annotations

import sys
from pathlib import Path

import neort

PACKED = Path(__file__).with_name("bundle")  # where build.py --bundle puts a model, beside this file


def main(text: str, new_tokens: str = "40") -> None:
    """Print the text and what follows on it, as it comes."""
    model = neort.load(PACKED if PACKED.is_dir() else None)  # None is the model that comes with neort
    print(text, end="")
    for piece in model.stream(text, max_new_tokens=int(new_tokens), do_sample=False):
        print(piece.text, end="", flush=True)
    print()


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: story TEXT [NEW_TOKENS]")
    main(*sys.argv[1:])
