"""Trains a small GPT-Neo, its byte-level BPE tokenizer included, from plain text files.

    python -m neort_export.training books.txt.xz -o neo-mini --minutes 50 --valid other-books.txt

With --tokenizer it takes another checkpoint's tokenizer, with --teacher its predictions, too: a smaller model made so
can draft for that one. With --init-from it goes on from a checkpoint's weights. --preset has recipes:

    python -m neort_export.training books.txt.xz -o neo-mini --preset neo-mini

With --save-every an interrupted run goes on when the same command is given again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from neort.cli.arguments import named_path
from neort.cli.ending import EXIT_STATUS, run_command
from neort.cli.streams import Output, ReaderGoneError
from neort.errors import ConfigError, NeortError, StorageError

from .options import Options
from .presets import NEEDS, PRESETS
from .resuming import saved_path
from .train import run

__all__ = ["main", "parse_args"]

SETTINGS = (
    ("vocab-size", int, "entries of the tokenizer"),
    ("hidden-size", int, "channels"),
    ("num-layers", int, "layers, global and local in turn"),
    ("num-heads", int, "attention heads"),
    ("context", int, "positions, and tokens per example"),
    ("window", int, "tokens a local layer sees"),
    ("batch-size", int, "examples per step"),
    ("optimizer", str, "adamw, or muon for the layers' matrices and AdamW for the rest"),
    ("learning-rate", float, "peak rate"),
    ("matrix-rate", float, "peak rate of Muon"),
    ("weight-decay", float, "share of a step's rate by which matrices shrink"),
    ("dropout", float, "share of the outputs of embeddings and layers that is dropped"),
    ("steps", int, "length of the run in steps"),
    ("minutes", float, "length of the run in minutes, instead of steps"),
    ("save-every", float, "minutes between files to go on from, beside the output"),
    ("temperature", float, "default of generate(), which then samples"),
    ("top-p", float, "likewise"),
    ("repetition-penalty", float, "default of generate()"),
    ("seed", int, "of weights and batches"),
    ("device", str, "auto, cpu or cuda"),
    ("threads", int, "CPU threads of torch"),
)


def parse_args(arguments: Sequence[str] | None = None) -> Options:
    """Return the command line's options. Raises ConfigError for one out of range."""
    parser = argparse.ArgumentParser(
        prog="python -m neort_export.training",
        description="Trains a small GPT-Neo and its tokenizer from plain text.",
        epilog=EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument("texts", nargs="+", type=named_path, metavar="TEXT", help="UTF-8 text file, .txt or .txt.xz")
    parser.add_argument("-o", "--output", type=named_path, required=True, metavar="CHECKPOINT", help="folder to write")
    parser.add_argument("--valid", type=named_path, metavar="TEXT", help="held-out text to measure the result on")
    parser.add_argument(
        "--tokenizer", type=named_path, metavar="FILE", help="tokenizer.json to take instead of training one"
    )
    parser.add_argument("--force", action="store_true", help="replace a checkpoint that is there")
    parser.add_argument(
        "--teacher", type=named_path, metavar="CHECKPOINT", help="learn its predictions, with its tokenizer"
    )
    parser.add_argument(
        "--init-from", type=named_path, metavar="CHECKPOINT", help="begin with its weights, and take its tokenizer"
    )
    parser.add_argument("--preset", choices=PRESETS, help="the recipe of a model, where no other option says otherwise")
    length = parser.add_mutually_exclusive_group()
    for name, kind, meaning in SETTINGS:
        default = getattr(Options, name.replace("-", "_"))
        owner = length if name in ("steps", "minutes") else parser
        shown = "" if default is None else f" (default {default})"
        owner.add_argument(f"--{name}", type=kind, metavar=name[0].upper(), help=meaning + shown)
    given = vars(parser.parse_args(arguments))
    name = given.pop("preset", "")
    preset = PRESETS.get(name, {})
    if needed := [f"--{option.replace('_', '-')}" for option in NEEDS.get(name, ()) if option not in given]:
        raise ConfigError(f"--preset {name} goes on from other checkpoints; give {' and '.join(needed)}, too")
    if "steps" in given:
        preset = {name: value for name, value in preset.items() if name != "minutes"}
    return Options(texts=tuple(given.pop("texts")), **{**preset, **given})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status, which --help lists."""

    begun: list[Options] = []

    def command(output: Output) -> int:
        try:
            begun.append(parse_args(arguments))
            run(begun[0])
        except BrokenPipeError:
            raise ReaderGoneError from None
        except NeortError:
            raise
        except OSError as error:
            raise StorageError(f"{error}", error) from error
        output.write("")  # brings out what was printed
        return 0

    def left() -> str:
        kept = saved_path(begun[0]) if begun else None
        return f"the same command goes on from {kept}" if kept and kept.is_file() else "nothing was written"

    return run_command("error", command, last=arguments is None, left=left)
