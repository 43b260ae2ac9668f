"""The command line's parser, and which command its arguments mean."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from .. import __version__
from .commands import COMMANDS
from .ending import EXIT_STATUS, run_command
from .streams import Output
from .unknown import refuse_unknown

__all__ = ["main", "make_parser"]


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands; each sets ``run``, what it does, and may set ``left``, what a signal leaves of it."""
    parser = argparse.ArgumentParser(
        prog="neort",
        description="GPT-Neo and GPT-2 on CPUs, without torch.",
        epilog=EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"neort {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(commands)
    for listed in commands._choices_actions:
        commands.choices[listed.dest].description = f"{listed.help}."
    parser.set_defaults(commands=commands.choices)
    return parser


def parse_args(argv: Sequence[str] | None, args: argparse.Namespace) -> None:
    _, unknown = make_parser().parse_known_args(argv, args)
    refuse_unknown(args.commands[args.command], unknown)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status, which `neort --help` lists.

    ``argv`` None means the process's own arguments: then the process ends with the command.
    """
    args = argparse.Namespace(left=str)  # str() is ""

    def command(output: Output) -> int:
        parse_args(argv, args)
        with output.alone():
            status: int = args.run(args, output)
            return status

    return run_command("neort", command, last=argv is None, left=lambda: str(args.left()))
