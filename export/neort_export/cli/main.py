"""``neort-export``: which command the arguments mean, and what its end is told in."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence

from neort import __version__
from neort.cli.ending import EXIT_STATUS, run_command
from neort.cli.streams import Output

from ..memory import keep_heap_small
from . import export, push, verify
from .outcome import Outcome

__all__ = ["main"]

COMMANDS = {"export": export, "verify": verify, "push": push}
DEFAULT = "export"
OWN_MODULES = r"neort_export(\.|$)"  # what an export leaves out is told whatever Python's filters say
SHORT_FORM = """\
The word `export` may be left out: neort-export CHECKPOINT -o BUNDLE.
A checkpoint in a folder named like a command is ./export, ./verify or ./push.
`neort-export COMMAND --help` lists a command's options."""


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments of a command: ``command`` is its name; the others are in its module."""
    parser = argparse.ArgumentParser(
        prog="neort-export",
        description="Make bundles of GPT-Neo and GPT-2 checkpoints, which neort runs without torch, and measure them.",
        usage="neort-export [export] CHECKPOINT -o BUNDLE [options]\n"
        "       neort-export verify BUNDLE --against CHECKPOINT [options]\n"
        "       neort-export push BUNDLE... --repo OWNER/NAME [options]",
        epilog=f"{SHORT_FORM}\n\n{EXIT_STATUS}",
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
    """Run the command and return its exit status, which `neort-export --help` lists.

    ``argv`` None means the process's own arguments: then the process ends with the command.
    """
    outcomes: list[Outcome] = []

    def command(output: Output) -> int:
        args = parse_args(argv)
        chosen = COMMANDS[args.command]
        keep_heap_small()
        outcomes.append(chosen.outcome(args))
        with output.alone(), warnings.catch_warnings():
            warnings.filterwarnings("always", category=UserWarning, module=OWN_MODULES)
            chosen.run(args, output)
        return 0

    return run_command(
        "neort-export", command, last=argv is None, left=lambda: outcomes[0].told() if outcomes else "nothing was done"
    )
