"""``neort verify``: a bundle against its manifest, its golden logits and itself; needs no torch."""

from __future__ import annotations

import argparse
from typing import Any

from ...verification import check
from ..arguments import add_bundle, add_kv_cache, bundle_of
from ..streams import Output

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "verify", help="check a bundle's hashes and golden logits; needs no torch", allow_abbrev=False
    )
    add_bundle(parser, positional=True)
    add_kv_cache(parser)
    parser.set_defaults(run=run, kv_cache=None)  # None: every graph


def run(args: argparse.Namespace, output: Output) -> int:
    path = bundle_of(args)
    checks = check(path, kv_cache=args.kv_cache)
    output.line(f"{path}: all files match the manifest")
    for each in checks:
        if each.skipped:
            output.line(f"skip   {each.name}: not checked: {each.skipped}")
            continue
        limit = "" if each.limit is None else f" (limit {each.limit:g})"
        output.line(f"{'ok    ' if each.passed else 'FAILED'} {each.name}: {each.value:.3g}{limit}")
    return 0 if all(each.passed for each in checks) else 1
