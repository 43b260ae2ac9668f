"""``neort-export verify BUNDLE --against CHECKPOINT``: measures a bundle that is there."""

from __future__ import annotations

import argparse

from neort.bundle import Bundle
from neort.cli.arguments import named, named_path
from neort.cli.streams import Output
from neort.verification import VERIFICATION

from .measures import add_measures, chosen_limits, figures, read_text
from .outcome import Outcome
from .source import add_source, chosen_source
from .terminal import Terminal

__all__ = ["DESCRIPTION", "HELP", "add_arguments", "outcome", "run"]

HELP = "measure a bundle against torch and write its verification.json anew"
DESCRIPTION = (
    "Measure a bundle against torch and write its verification.json, and the figures in its README.md, anew. Without "
    "torch, `neort verify BUNDLE` checks hashes, golden logits and identity in batches and chunks."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("bundle", type=named_path, help="folder that neort-export wrote")
    parser.add_argument(
        "--against",
        required=True,
        type=named,
        metavar="CHECKPOINT",
        help="what the bundle was made of: a folder, or a hub name: NAME[@REVISION]",
    )
    add_source(parser)
    add_measures(parser)


def outcome(args: argparse.Namespace) -> Outcome:
    """What Ctrl-C leaves."""
    return Outcome(
        args.bundle / VERIFICATION,
        unchanged=f"{VERIFICATION} was left as it was",
        written=f"{VERIFICATION} was written already",
    )


def run(args: argparse.Namespace, output: Output) -> None:
    """Verify, and print the figures. Raises what `neort_export.verify` does."""
    from .. import verify

    bundle = Bundle(args.bundle)
    measured = verify(
        args.bundle,
        args.against,
        **chosen_source(args),
        text=read_text(args.text) if args.text else None,
        limits=chosen_limits(args, bundle.quantization),
        progress=Terminal(),
    )
    output.line("\n".join(figures(args.bundle, measured)))
