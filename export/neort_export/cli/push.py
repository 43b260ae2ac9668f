"""``neort-export push BUNDLE... --repo OWNER/NAME``: writes the folder that a hub repository needs; uploads nothing."""

from __future__ import annotations

import argparse
from pathlib import Path

from neort.cli.arguments import named, named_path
from neort.cli.display import bytes_in_words
from neort.cli.streams import Output, tell

from .outcome import Outcome

__all__ = ["DESCRIPTION", "HELP", "add_arguments", "outcome", "run"]

HELP = "write the folder that a hub repository needs, and print the command that uploads it"
DESCRIPTION = (
    "Write bundles of one model, one for each format, as the folder of a repository on the Hugging Face hub: a folder "
    "for each format, one card made of theirs, and .gitattributes for LFS. Nothing is uploaded: the command that does "
    "so is printed. Whoever then runs `neort pull OWNER/NAME` has the bundle."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("bundles", nargs="+", type=named_path, metavar="BUNDLE", help="folders that neort-export wrote")
    parser.add_argument(
        "--repo", required=True, type=named, metavar="OWNER/NAME", help="the repository's name on the hub"
    )
    parser.add_argument(
        "-o", "--output", type=named_path, metavar="FOLDER", help="folder to create; default: NAME-hub, here"
    )
    parser.add_argument("--force", action="store_true", help="replace a folder that push has written before")


def outcome(args: argparse.Namespace) -> Outcome:
    """What Ctrl-C leaves."""
    folder: Path = args.output or Path(f"{args.repo.rpartition('/')[2]}-hub")
    return Outcome(folder / "README.md", unchanged="nothing was written", written=f"{folder} was written already")


def run(args: argparse.Namespace, output: Output) -> None:
    """Write the folder, and print the command. Raises what `write_repository` does."""
    from ..repository import write_repository

    written = write_repository(args.bundles, args.repo, args.output, force=args.force)
    sizes = ", ".join(f"{form} {bytes_in_words(size)}" for form, size in written.sizes.items())
    tell(f"{written.path}: {sizes}, and a card; nothing was uploaded. This command uploads it:")
    if not written.licensed:
        tell(f"its card names no licence: write `license:` into the header of {written.path / 'README.md'} first")
    output.line(written.command)
