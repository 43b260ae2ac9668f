"""``neort tokenize``: the tokens of a text, and back."""

from __future__ import annotations

import argparse
from typing import Any

from ...bundle import Bundle
from ...errors import PromptError
from ...tokenizer import Tokenizer
from ..arguments import add_bundle, bundle_of
from ..display import aligned, visible
from ..streams import Output, read_input, utf8_argument

__all__ = ["add_parser", "run"]

TOKENIZER = "tokenizer.json"


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "tokenize", help="show the tokens of a text, or the text of tokens", allow_abbrev=False
    )
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="text, or with --ids numbers; - is standard input")
    add_bundle(parser)
    parser.add_argument("--ids", action="store_true", help="take token ids, and print their text")
    parser.add_argument(
        "--no-special", action="store_true", help="leave out tokens that the tokenizer puts around every text"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per text")
    parser.set_defaults(run=run, refuse=parser.error)


def run(args: argparse.Namespace, output: Output) -> int:
    """Raises BundleError, TokenizerError; PromptError for input that is no text, or no ids."""
    if args.texts.count("-") > 1:
        args.refuse("- is given more than once; standard input is read once")
    if not args.texts:
        args.refuse("there is no text; give one, or - for standard input")
    texts = [read_input() if text == "-" else utf8_argument(text, "the text") for text in args.texts]
    tokenizer = Tokenizer.from_file(Bundle(bundle_of(args)).file(TOKENIZER))
    if args.ids:
        _show(tokenizer, _ids(" ".join(texts), tokenizer), args.json, output)
        return 0
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=not args.no_special)
        if args.json:
            output.json({"text": text, **_facts(tokenizer, ids)})
        else:
            _print_tokens(tokenizer, text, ids, output)
    return 0


def _ids(text: str, tokenizer: Tokenizer) -> list[int]:
    """Numbers between blanks, commas or brackets. Raises PromptError for anything else."""
    words = text.translate(dict.fromkeys(map(ord, ",[]()"), " ")).split()
    wrong = next((word for word in words if not (word.isascii() and word.isdigit() and len(word) < 10)), None)
    if wrong is not None:
        raise PromptError(f"{wrong!r} is no token id; give whole numbers from 0 on, or leave out --ids for a text")
    unknown = next((int(word) for word in words if not tokenizer.all_bytes(int(word))), None)
    if unknown is not None:
        raise PromptError(f"the tokenizer has no token {unknown}; its {tokenizer.vocab_size:,} ids begin with 0")
    return [int(word) for word in words]


def _show(tokenizer: Tokenizer, ids: list[int], as_json: bool, output: Output) -> None:
    text = tokenizer.decode(ids, skip_special_tokens=False)
    if as_json:
        output.json({"text": text, **_facts(tokenizer, ids)})
    else:
        output.line(text)


def _facts(tokenizer: Tokenizer, ids: list[int]) -> dict[str, Any]:
    return {"ids": ids, "tokens": [tokenizer.shown(token_id) for token_id in ids], "count": len(ids)}


def _print_tokens(tokenizer: Tokenizer, text: str, ids: list[int], output: Output) -> None:
    rows = [(str(i), str(token_id), visible(tokenizer.shown(token_id))) for i, token_id in enumerate(ids)]
    for line in aligned([("", "id", "token"), *rows], "rr"):
        output.line(line)
    size = len(text.encode("utf-8", "surrogatepass"))
    output.line(f"{len(ids):,} tokens of {len(text):,} characters, {size:,} bytes")
