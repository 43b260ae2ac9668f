"""``neort-export``: which command the arguments mean, and what its end is told in."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from neort import __version__
from neort.errors import NeortError

from ..memory import keep_heap_small
from . import export, verify
from .outcome import Outcome

__all__ = ["main"]

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
COMMANDS = {"export": export, "verify": verify}
DEFAULT = "export"
SHORT_FORM = """\
The word `export` may be left out: neort-export CHECKPOINT -o BUNDLE.
A checkpoint in a folder named like a command is ./export or ./verify.
`neort-export COMMAND --help` lists a command's options."""


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments of a command: ``command`` is its name; the others are in its module."""
    parser = argparse.ArgumentParser(
        prog="neort-export",
        description="Make bundles of GPT-Neo checkpoints, which neort runs without torch, and measure them.",
        usage="neort-export [export] CHECKPOINT -o BUNDLE [options]\n"
        "       neort-export verify BUNDLE --against CHECKPOINT [options]",
        epilog=SHORT_FORM,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"neort-export {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", prog="neort-export")
    for name, command in COMMANDS.items():
        parser_of_command = commands.add_parser(
            name, help=command.HELP, description=command.DESCRIPTION, allow_abbrev=False
        )
        command.add_arguments(parser_of_command)
    return parser.parse_args(_with_command(list(sys.argv[1:] if argv is None else argv)))


def _with_command(arguments: list[str]) -> list[str]:
    """The arguments with the default command where they name none."""
    first = arguments[:1]
    if not first or first[0] in (*COMMANDS, "-h", "--help", "--version"):
        return arguments
    return [DEFAULT, *arguments]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0, 1 for an error (one sentence on stderr), 130 for Ctrl-C."""
    args = parse_args(argv)
    command = COMMANDS[args.command]
    keep_heap_small()
    outcome: Outcome = command.outcome(args)
    try:
        command.run(args)
    except NeortError as error:
        print(f"neort-export: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nneort-export: interrupted; {outcome.told()}", file=sys.stderr)
        return INTERRUPTED
    return 0
