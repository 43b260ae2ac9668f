"""``neort generate``: continue one or several prompts, or those of a file."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
from typing import Any

from ...batches import figures_of
from ...engine import Completion
from ...generation import OPTIONS, GenerationConfig
from ...loading import MAX_BATCH_SIZE, load
from ...model import Model
from ..arguments import add_bundle, add_generation_options, add_kv_cache, add_workers, bundle_of
from ..escapes import unescaped
from ..streams import Output, read_input, utf8_argument
from . import generate_file, generate_workers

__all__ = ["add_parser", "given_options", "run"]

LOADING = ("num_threads", "max_batch_size", "packed_weights", "draft", "kv_cache")  # what `load` is given


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "generate",
        help="continue one or several prompts, or those of a file",
        usage="%(prog)s [-h] [OPTION ...] [PROMPT ...]",
        allow_abbrev=False,
    )
    parser.add_argument(
        "prompts",
        nargs="*",
        metavar="PROMPT",
        help="text to continue; - reads it from standard input, a line feed at its end included",
    )
    generate_file.add_arguments(parser)
    add_bundle(parser)
    parser.add_argument("--num-threads", type=int, metavar="N", help="default: the CPUs this process may use")
    add_workers(parser, "processes that share the prompts of --input and the CPUs; default: 1", throughput=True)
    parser.add_argument(
        "--draft", metavar="HOW", help="prompt-lookup, or a smaller model's bundle: the same text, faster"
    )
    parser.add_argument("--packed-weights", metavar="FOLDER", help="keep packed weights there: processes share them")
    add_kv_cache(parser)
    parser.add_argument("--negative-prompt", metavar="TEXT", help="what --guidance-scale leads away from")
    parser.add_argument(
        "--max-batch-size",
        type=int,
        default=MAX_BATCH_SIZE,
        metavar="N",
        help=f"most sequences that are decoded together; default: {MAX_BATCH_SIZE}",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per result")
    add_generation_options(parser)
    parser.set_defaults(run=run, refuse=parser.error)


def run(args: argparse.Namespace, output: Output) -> int:
    """Load and generate. Raises what `load` and `Model.generate` do, PromptError for a prompt that cannot be read."""
    generate_file.check_arguments(args)
    prompts, options = _prompts(args), given_options(args)
    negative = None if args.negative_prompt is None else utf8_argument(args.negative_prompt, "the negative prompt")
    loading = {name: getattr(args, name) for name in LOADING}
    if args.workers != 1:
        return generate_workers.run(args, loading, options, output, negative)
    model = load(bundle_of(args), **loading)
    config = model.generation_config.replace(**options)
    if args.input is not None:
        return generate_file.run(args, model, config, output, negative)
    if not args.json and len(prompts) == 1 and config.num_return_sequences == config.num_beams == 1:
        _stream(model, prompts[0], config, output, negative)
        return 0
    completions = model.generate(prompts, config, negative_prompt=negative)
    for i, completion in enumerate(completions):
        prompt = prompts[i // config.num_return_sequences]
        if args.json:
            output.json(_as_json(model, prompt, completion))
        else:
            output.line(f"{prompt}{completion.text}\n")
    return 0


def _prompts(args: argparse.Namespace) -> list[str]:
    if args.prompts.count("-") > 1:
        args.refuse("- is given more than once; standard input is read once")
    given = [prompt if prompt == "-" else utf8_argument(prompt, "the prompt") for prompt in args.prompts]
    return [read_input() if prompt == "-" else prompt for prompt in given]


def given_options(args: argparse.Namespace) -> dict[str, Any]:
    """The generation options that were given, escape sequences in strings that the text may hold replaced."""
    options = {name: value for name, value in vars(args).items() if name in OPTIONS}
    for name in ("stop_strings", "dry_sequence_breakers"):
        if name in options:
            options[name] = [unescaped(utf8_argument(text, OPTIONS[name].flag)) for text in options[name]]
    return options


def _stream(model: Model, prompt: str, config: GenerationConfig, output: Output, negative: str | None) -> None:
    """Print the prompt and its continuation, piece by piece as it is generated."""
    pieces = model.stream(prompt, config, negative_prompt=negative)
    with contextlib.closing(pieces):
        output.write(prompt)
        for piece in pieces:
            output.write(piece.text)
    output.write("\n")


def _as_json(model: Model, prompt: str, completion: Completion) -> dict[str, Any]:
    stats = completion.stats
    return {
        "prompt": prompt,
        "text": completion.text,
        "token_ids": completion.token_ids,
        "finish_reason": completion.finish_reason,
        **figures_of(completion, model.tokenizer),
        "stats": {
            **dataclasses.asdict(stats),
            "prompt_tokens_per_second": stats.prompt_tokens_per_second,
            "tokens_per_second": stats.tokens_per_second,
        },
    }
