"""``neort pull``: brings a bundle from a hub or a web server into the cache. No other command opens a connection."""

from __future__ import annotations

import argparse
from typing import Any

from ..arguments import named
from ..display import Progress, bytes_in_words
from ..streams import Output, tell

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "pull",
        help="fetch a bundle from a hub, or from a folder of a web server, into the cache",
        allow_abbrev=False,
    )
    parser.add_argument(
        "name",
        type=named,
        metavar="NAME",
        help="OWNER/NAME or OWNER/NAME@REVISION on the hub, or the https address of a folder",
    )
    parser.add_argument(
        "--format", type=named, metavar="FORMAT", help="which one, of several; default: the only one, or int8"
    )
    parser.set_defaults(run=run, left=lambda: "what has arrived is kept: the same command goes on")


def run(args: argparse.Namespace, output: Output) -> int:
    """Print the bundle's folder. Raises what `neort.pulling.pull` does."""
    from ...pulling import Listener, pull  # which only this command needs

    with Progress("neort pull") as progress:

        def told(sentence: str) -> None:
            progress.clear()
            tell(f"neort pull: {sentence}")

        def moved(done: int, total: int) -> None:
            progress.update(done / total if total else None, f"{bytes_in_words(done)} of {bytes_in_words(total)}")

        pulled = pull(args.name, args.format, listener=Listener(told, moved))
    tell(f"neort pull: --model {pulled.name} takes it")
    output.line(str(pulled.path))
    return 0
