"""The command line's parser, and which command its arguments mean."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from .. import __version__
from . import eval as evaluate
from . import generate, info, verify
from .ending import EXIT_STATUS, run_command
from .streams import Output
from .unknown import refuse_unknown

__all__ = ["main"]


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="neort",
        description="GPT-Neo and GPT-2 on CPUs, without torch.",
        epilog=EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"neort {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in (generate, info, verify, evaluate):
        command.add_parser(commands)
    args, unknown = parser.parse_known_args(argv)
    refuse_unknown(commands.choices[args.command], unknown)
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status, which `neort --help` lists.

    ``argv`` None means the process's own arguments: then the process ends with the command.
    """

    def command(output: Output) -> int:
        args = parse_args(argv)
        with output.alone():
            status: int = args.run(args, output)
            return status

    return run_command("neort", command, last=argv is None)
