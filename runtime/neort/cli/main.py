"""The command line's parser and its exit status."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from .. import __version__
from ..errors import NeortError
from . import generate, info, verify

__all__ = ["main"]

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="neort", description="GPT-Neo on CPUs, without torch.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"neort {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in (generate, info, verify):
        command.add_parser(commands)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0, 1 for an error (one sentence on stderr), 130 for Ctrl-C.

    Only errors that neort raises on purpose become a sentence: any other is a fault of neort, and keeps its traceback.
    """
    args = parse_args(argv)
    try:
        status: int = args.run(args)
        sys.stdout.flush()  # here, where a closed pipe is caught
        return status
    except NeortError as error:
        print(f"neort: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the interpreter's last flush succeeds
        return 1
