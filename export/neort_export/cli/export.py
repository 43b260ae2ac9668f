"""``neort-export CHECKPOINT -o BUNDLE``: makes a bundle of a checkpoint."""

from __future__ import annotations

import argparse

from neort.bundle import FORMATS, MANIFEST
from neort.cli.arguments import named, named_path
from neort.cli.streams import Output

from .measures import add_measures, chosen_limits, figures, given_limits, megabytes, read_text
from .outcome import Outcome
from .source import add_source, chosen_source
from .terminal import Terminal

__all__ = ["DESCRIPTION", "HELP", "add_arguments", "outcome", "run"]

HELP = "make a bundle of a checkpoint and compare it with torch"
DESCRIPTION = (
    "Export a GPT-Neo or GPT-2 checkpoint to a bundle that neort runs without torch. Of a name on the Hugging Face hub "
    "the files that are needed are fetched into the hub's cache, where the next export finds them; HF_ENDPOINT, "
    "HF_TOKEN, HF_HOME, HF_HUB_CACHE and HF_HUB_OFFLINE mean what they mean to the hub's own client."
)
PLACE = "folder with config.json and weights, or a Hugging Face hub name: NAME or NAME@REVISION"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("checkpoint", type=named, help=PLACE)
    add_source(parser)
    parser.add_argument("-o", "--output", required=True, metavar="BUNDLE", type=named_path, help="folder to create")
    parser.add_argument("--quantization", choices=list(FORMATS), default="int8", help="default: int8")
    parser.add_argument("--force", action="store_true", help="replace an existing bundle")
    parser.add_argument("--no-verify", action="store_true", help="do not compare with torch; the manifest says so")
    add_measures(parser)
    parser.set_defaults(refuse=parser.error)


def outcome(args: argparse.Namespace) -> Outcome:
    """What Ctrl-C leaves."""
    written = f"the bundle was written already: {args.output}"
    return Outcome(args.output / MANIFEST, unchanged="no bundle was written", written=written)


def run(args: argparse.Namespace, output: Output) -> None:
    """Export, and print the figures. Raises what `neort_export.export` does; SystemExit for arguments that clash."""
    if args.no_verify and (args.text or args.strict or given_limits(args)):
        args.refuse("--no-verify measures nothing: leave out --text, --strict and the limits, or verify")
    from .. import export

    report = export(
        args.checkpoint,
        args.output,
        **chosen_source(args),
        quantization=args.quantization,
        force=args.force,
        verify=not args.no_verify,
        text=read_text(args.text) if args.text else None,
        limits=chosen_limits(args, args.quantization),
        progress=Terminal(),
    )
    if report.verification is None:
        output.line(f"{report.path}: {megabytes(report.path)} MB, not verified")
    else:
        output.line("\n".join(figures(report.path, report.verification)))
    for remark in filter(None, (report.left_out, report.untried)):
        output.line(f"  {remark}")
