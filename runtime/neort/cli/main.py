"""``neort``: generate text, look at a bundle, check a bundle."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from .. import __version__
from ..bundle import Bundle, bundled_path
from ..engine import Completion
from ..errors import NeortError
from ..generation import GenerationConfig
from ..kvcache import CACHE_TYPES
from ..model import Model, load
from ..verification import VERIFICATION, verify

__all__ = ["main"]

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="neort", description="GPT-Neo on CPUs, without torch.")
    parser.add_argument("--version", action="version", version=f"neort {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_generate(commands.add_parser("generate", help="continue one or several prompts"))
    info = commands.add_parser("info", help="show a bundle's manifest and verification figures")
    check = commands.add_parser("verify", help="check a bundle's hashes and golden logits; needs no torch")
    for command in (info, check):
        command.add_argument("bundle", nargs="?", metavar="BUNDLE", help="folder; default: the bundled model")
    _add_kv_cache(check)
    return parser.parse_args(argv)


def _add_kv_cache(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kv-cache", choices=list(CACHE_TYPES), default="fp32", help="int8: a quarter of the memory")


def _add_generate(parser: argparse.ArgumentParser) -> None:
    """One flag per generation option, without defaults: what is not given comes from the bundle."""
    parser.add_argument("prompts", nargs="+", metavar="PROMPT", help="text to continue; - reads it from standard input")
    parser.add_argument("--model", metavar="BUNDLE", help="folder; default: the bundled demonstration model")
    parser.add_argument("--num-threads", type=int, metavar="N", help="default: the CPUs this process may use")
    parser.add_argument(
        "--draft", metavar="HOW", help="prompt-lookup, or a smaller model's bundle: the same text, faster"
    )
    parser.add_argument("--packed-weights", metavar="FOLDER", help="keep packed weights there: processes share them")
    _add_kv_cache(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object per result")
    options = parser.add_argument_group("generation options", argument_default=argparse.SUPPRESS)
    for flag in ("--max-new-tokens", "--min-new-tokens", "--min-length", "--top-k", "--seed", "--num-return-sequences"):
        options.add_argument(flag, type=int, metavar="N")
    for flag in ("--temperature", "--top-p", "--repetition-penalty"):
        options.add_argument(flag, type=float, metavar="X")
    options.add_argument("--do-sample", action=argparse.BooleanOptionalAction)
    options.add_argument("--stop", dest="stop_strings", action="append", metavar="TEXT", help="may be repeated")
    options.add_argument("--overflow", choices=["error", "stop", "truncate_left"])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0, 1 for an error (one sentence on stderr), 130 for Ctrl-C."""
    args = parse_args(argv)
    commands = {"generate": generate, "info": info, "verify": run_verify}
    try:
        status = commands[args.command](args)
        sys.stdout.flush()  # here, where a closed pipe is caught
        return status
    except (NeortError, ValueError, TypeError) as error:
        print(f"neort: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the interpreter's last flush succeeds
        return 1


def generate(args: argparse.Namespace) -> int:
    model = load(
        args.model,
        num_threads=args.num_threads,
        packed_weights=args.packed_weights,
        draft=args.draft,
        kv_cache=args.kv_cache,
    )
    prompts = [sys.stdin.read() if prompt == "-" else prompt for prompt in args.prompts]
    names = {field.name for field in dataclasses.fields(GenerationConfig)}
    config = model.generation_config.replace(**{k: v for k, v in vars(args).items() if k in names})
    if not args.json and len(prompts) == 1 and config.num_return_sequences == 1:
        _stream(model, prompts[0], config)
        return 0
    completions = model.generate(prompts, config)
    for i, completion in enumerate(completions):
        prompt = prompts[i // config.num_return_sequences]
        if args.json:
            print(json.dumps(_as_json(prompt, completion), ensure_ascii=False), flush=True)
        else:
            print(f"{prompt}{completion.text}\n", flush=True)
    return 0


def _stream(model: Model, prompt: str, config: GenerationConfig) -> None:
    """The prompt and its continuation, piece by piece as it is generated."""
    pieces = model.stream(prompt, config)
    print(prompt, end="", flush=True)
    with contextlib.closing(pieces):
        for piece in pieces:
            print(piece.text, end="", flush=True)
    print()


def _as_json(prompt: str, completion: Completion) -> dict[str, Any]:
    stats = completion.stats
    return {
        "prompt": prompt,
        "text": completion.text,
        "token_ids": completion.token_ids,
        "finish_reason": completion.finish_reason,
        "stats": {
            **dataclasses.asdict(stats),
            "prompt_tokens_per_second": stats.prompt_tokens_per_second,
            "tokens_per_second": stats.tokens_per_second,
        },
    }


def info(args: argparse.Namespace) -> int:
    bundle = Bundle(args.bundle or bundled_path())
    stored = bundle.read_json(VERIFICATION) if VERIFICATION in bundle.file_names else {}
    figures = {k: v for k, v in stored.items() if k != "golden"} or None
    print(json.dumps({**bundle.manifest, "verification": figures}, indent=1, ensure_ascii=False))
    return 0


def run_verify(args: argparse.Namespace) -> int:
    path = args.bundle or bundled_path()
    checks = verify(path, kv_cache=args.kv_cache)
    print(f"{path}: all files match the manifest")
    for check in checks:
        limit = "" if check.limit is None else f" (limit {check.limit:g})"
        print(f"{'ok    ' if check.passed else 'FAILED'} {check.name}: {check.value:.3g}{limit}")
    return 0 if all(check.passed for check in checks) else 1


if __name__ == "__main__":
    raise SystemExit(main())
