"""Arguments that commands share, each said once: which bundle, which cache, and the generation options."""

from __future__ import annotations

import argparse
import functools
import re
from collections.abc import Collection
from pathlib import Path

from ..bundle import bundled_path
from ..generation import OPTIONS
from ..hub import find_bundle
from ..kvcache import CACHE_TYPES
from ..wording import shortened
from ..workers import suited_workers

__all__ = [
    "FLAGS",
    "FOLDER",
    "add_bundle",
    "add_generation_options",
    "add_kv_cache",
    "add_workers",
    "bundle_of",
    "named",
    "named_path",
    "with_flags",
]

FLAGS = {name: option.flag for name, option in OPTIONS.items()} | {
    "num_threads": "--num-threads",
    "packed_weights": "--packed-weights",
    "kv_cache": "--kv-cache",
    "draft": "--draft",
    "max_batch_size": "--max-batch-size",
    "negative_prompt": "--negative-prompt",
}
"""The flags of what Python calls options and arguments."""
FOLDER = "folder of a bundle, or what neort pull has fetched; default: the bundled demonstration model"


def add_bundle(parser: argparse.ArgumentParser, *, positional: bool = False) -> None:
    """Let every command name its bundle by ``--model``; where ``positional``, an argument alone does, too."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("-m", "--model", "--bundle", dest="model", metavar="BUNDLE", help=FOLDER)
    if positional:
        group.add_argument("bundle", nargs="?", metavar="BUNDLE", help="the same, without the flag")


def bundle_of(args: argparse.Namespace) -> str:
    """The folder that the arguments of `add_bundle` name.

    Raises BundleError where there is no bundled model, or nothing was pulled by that name.
    """
    named: str | None = args.model if args.model is not None else getattr(args, "bundle", None)
    return str(bundled_path() if named is None else find_bundle(named))


def named(text: str) -> str:
    """An argument that is not empty, as an unset variable of a shell is. Raises argparse.ArgumentTypeError."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty; name a file or folder")
    return text


def named_path(text: str) -> Path:
    """The path that an argument names; raises what `named` does."""
    return Path(named(text))


def add_kv_cache(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--kv-cache", choices=list(CACHE_TYPES), default="fp32", help="int8: a quarter of the memory")


def add_workers(parser: argparse._ActionsContainer, said: str, *, throughput: bool = False) -> None:
    """The number of processes; ``throughput`` is whether all tokens together count, not how soon one answer comes."""
    kind = functools.partial(_workers, throughput=throughput)
    parser.add_argument("--workers", type=kind, default=1, metavar="N", help=f"{said}; auto: what suits the machine")


def _workers(text: str, *, throughput: bool) -> int:
    """A number of processes. Raises argparse.ArgumentTypeError."""
    if text == "auto":
        return suited_workers(throughput=throughput)
    if not (text.isascii() and text.isdigit() and 0 < int(text[:12]) < 1 << 31):
        raise argparse.ArgumentTypeError(f"{shortened(text)} is no number of processes; write one from 1 on, or auto")
    return int(text)


def add_generation_options(parser: argparse.ArgumentParser, *, without: Collection[str] = ()) -> None:
    """One flag per option of GenerationConfig, without defaults: what is not given comes from the bundle.

    ``without`` are names of options that make no sense to a command.
    """
    group = parser.add_argument_group("generation options", argument_default=argparse.SUPPRESS)
    for name, option in OPTIONS.items():
        if name not in without:
            flag = option.add_flag(group, name)
            flag.help = with_flags(flag.help or "")


def with_flags(sentence: str) -> str:
    """A sentence with the flags in the place of Python's names for them, where these can be told from words."""
    return re.sub(r"\w+", lambda word: FLAGS.get(word[0], word[0]) if "_" in word[0] else word[0], sentence)
