"""``neort explain``: the probability of each token of a text, and what the model would rather have said."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...errors import PromptError
from ...explanation import ExplainedToken, explain, html_page, perplexity
from ...files import published_file, storage_errors
from ...generation import OPTIONS
from ...loading import load
from ...model import Model
from ..arguments import add_bundle, add_generation_options, bundle_of, named_path
from ..display import Colours, add_colour, aligned, colours_of, visible
from ..streams import Output, read_input, utf8_argument
from .generate import given_options

__all__ = ["add_parser", "run"]

LEGEND = ("0.5", "0.2", "0.05", "0.01", "0")
MOST_ALTERNATIVES = 50
BESIDE_A_TEXT = ("num_return_sequences", "logprobs", "prompt_logprobs")
LIKELIEST = 3  # alternatives in a line of the table


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "explain",
        help="show the probability and the alternatives of each token of a text",
        usage="%(prog)s [-h] [OPTION ...] TEXT",
        allow_abbrev=False,
    )
    parser.add_argument("text", metavar="TEXT", help="text to explain; - reads it from standard input")
    add_bundle(parser)
    parser.add_argument("--num-threads", type=int, metavar="N", help="default: the CPUs this process may use")
    parser.add_argument("--generate", action="store_true", help="continue the text first, and explain that, too")
    parser.add_argument(
        "--top", type=int, default=5, metavar="N", help="alternatives of each token, 1 to 50; default: 5"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--html", type=named_path, metavar="FILE", help="write a page that shows it, whole in one file")
    form.add_argument("--json", action="store_true", help="print one JSON object per token")
    form.add_argument("--table", action="store_true", help="print a line per token in a terminal, too")
    add_colour(parser)
    add_generation_options(parser, without=BESIDE_A_TEXT)
    parser.set_defaults(run=run, refuse=parser.error)


def run(args: argparse.Namespace, output: Output) -> int:
    """Raises what `load`, `Model.generate` and `Model.logits` do; StorageError where the page cannot be written."""
    if not 1 <= args.top <= MOST_ALTERNATIVES:
        args.refuse(f"--top is {args.top}; it must be at least 1 and at most {MOST_ALTERNATIVES}")
    options = given_options(args)
    if options and not args.generate:
        args.refuse(
            f"{OPTIONS[next(iter(options))].flag} is an option of generation; give --generate, too, or leave it out"
        )
    text = read_input() if args.text == "-" else utf8_argument(args.text, "the text")
    model = load(bundle_of(args), num_threads=args.num_threads)
    tokens = _explained(model, text, options if args.generate else None, args.top)
    if args.html is not None:
        _write_page(args.html, html_page(tokens, title=f"{model.bundle.path.name}: token probabilities"))
        output.line(f"{args.html}: {_count(tokens)}")
    elif args.json:
        for token in tokens:
            output.json(asdict(token))
    else:
        _print(tokens, args, output)
    return 0


def _explained(model: Model, text: str, options: dict[str, Any] | None, top: int) -> list[ExplainedToken]:
    ids = model.tokenizer.encode(text)
    if not ids:
        raise PromptError("the text is empty; give at least one character")
    new: tuple[int, ...] = ()
    if options is not None:
        config = model.generation_config.replace(**options)
        new = model.generate(ids, config, num_return_sequences=config.num_return_sequences)[0].token_ids
    return explain(model, [*ids, *new], top=top, prompt_tokens=len(ids))


def _count(tokens: list[ExplainedToken]) -> str:
    return f"{len(tokens):,} token{'s' if len(tokens) != 1 else ''}"


def _write_page(file: Path, page: str) -> None:
    with storage_errors("the page", file, "give another --html"), published_file(file) as stream:
        stream.write(page.encode("utf-8", "backslashreplace"))


def _print(tokens: list[ExplainedToken], args: argparse.Namespace, output: Output) -> None:
    colours = colours_of(args.color, output)
    coloured = colours("x", "0") != "x"
    if coloured:
        output.line("".join(_coloured(token, colours) for token in tokens))
        legend = " ".join(colours(f" {float(least):.0%} ", least) for least in LEGEND)
        output.line(f"\nprobability at least {legend}")
    if args.table or not coloured:
        for line in aligned(
            [("", "probability", "rank", "token", "likeliest"), *map(_row, range(len(tokens)), tokens)], "rrr"
        ):
            output.line(line)
    value = perplexity(tokens)
    output.line(_count(tokens) + ("" if value is None else f", perplexity {value:,.1f}"))


def _coloured(token: ExplainedToken, colours: Colours) -> str:
    text = "".join(each if each == "\n" or each.isprintable() else visible(each)[1:-1] for each in token.text)
    return text if token.probability is None else colours(text, str(token.probability))


def _row(place: int, token: ExplainedToken) -> tuple[str, str, str, str, str]:
    likeliest = "  ".join(f"{visible(each.text)} {each.probability:.1%}" for each in token.alternatives[:LIKELIEST])
    shown = visible(token.text) + (" (new)" if token.generated else "")
    if token.probability is None:
        return str(place), "", "", shown, ""
    return str(place), f"{token.probability:.2%}", str(token.rank), shown, likeliest
