"""``neort info``: a bundle's manifest and the figures of its verification."""

from __future__ import annotations

import argparse
import json
from typing import Any

from ..bundle import Bundle
from ..verification import read_stored
from .arguments import add_bundle, bundle_of

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("info", help="show a bundle's manifest and verification figures", allow_abbrev=False)
    add_bundle(parser, positional=True)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    bundle = Bundle(bundle_of(args))
    stored = read_stored(bundle)
    figures = stored.figures if stored else None
    print(json.dumps({**bundle.manifest, "verification": figures}, indent=1, ensure_ascii=False))
    return 0
