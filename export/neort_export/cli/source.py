"""The arguments that name a checkpoint, which both commands have."""

from __future__ import annotations

import argparse
from typing import Any

from neort.cli.arguments import named

__all__ = ["add_source", "chosen_source"]


def add_source(parser: argparse.ArgumentParser) -> None:
    """What belongs to a checkpoint beside its name."""
    parser.add_argument(
        "--revision", type=named, metavar="NAME", help="branch, tag or commit of a hub name; the same as NAME@REVISION"
    )
    parser.add_argument(
        "--adapter",
        type=named,
        metavar="NAME_OR_FOLDER",
        help="LoRA adapter (peft's files), a folder or a hub name, to merge into the weights",
    )
    parser.add_argument(
        "--tokenizer",
        type=named,
        metavar="NAME_OR_FOLDER",
        help="where the tokenizer is taken from, a folder or a hub name, for a checkpoint without one",
    )


def chosen_source(args: argparse.Namespace) -> dict[str, Any]:
    """The keyword arguments of `neort_export.export` and `neort_export.verify` for them."""
    return {"revision": args.revision, "adapter": args.adapter, "tokenizer": args.tokenizer}
