"""``neort generate --input FILE``: the prompts of a file, to a file that a later run continues, or to the screen."""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ...batches import (
    FIGURES,
    INPUT_FORMATS,
    RESULT_KEYS,
    InputFormat,
    Record,
    Result,
    ResultFile,
    answers,
    facts_of,
    format_of_file,
    read_records,
)
from ...bundle import Bundle
from ...errors import ConfigError, PromptError
from ...generation import OPTIONS, GenerationConfig
from ...model import Model
from ..arguments import named, named_path
from ..display import Progress
from ..streams import Output, tell

__all__ = ["Answering", "add_arguments", "check_arguments", "facts_of_run", "run", "run_records"]

STANDARD = "-"

Answering = Callable[[Iterator[Record]], Generator[Result, None, None]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags for prompts that come from a file."""
    group = parser.add_argument_group("files of prompts")
    group.add_argument("--input", type=named, metavar="FILE", help="file with prompts; - is standard input")
    group.add_argument(
        "--output",
        type=named_path,
        metavar="FILE",
        help="file for the results, one JSON object a line; the same command continues it after an interruption; "
        "default: standard output",
    )
    group.add_argument(
        "--input-format",
        choices=INPUT_FORMATS,
        help="jsonl: a JSON object a line; lines: a prompt a line; text: the whole file is one prompt; default: jsonl "
        "for names that end in .jsonl or .ndjson, else text",
    )
    group.add_argument("--prompt-key", default="prompt", metavar="NAME", help="member with the prompt; default: prompt")
    group.add_argument(
        "--output-key", default="completion", metavar="NAME", help="member for the text; default: completion"
    )
    group.add_argument("--overwrite", action="store_true", help="begin anew where the output file exists")


def check_arguments(args: argparse.Namespace) -> None:
    """End with the usage where the arguments name no prompts, or contradict each other."""
    if args.input is None and not args.prompts:
        args.refuse("there is no prompt; give one, or --input FILE")
    if args.input is not None and args.prompts:
        args.refuse("prompts are given as arguments and by --input; give one of the two")
    if args.input is None and args.output is not None:
        args.refuse("--output is for the prompts of --input; send others to a file with > FILE")
    if args.output is None and args.overwrite:
        args.refuse("--overwrite is for a file of results; give --output FILE, too")
    if args.input is None and args.input_format is not None:
        args.refuse("--input-format is for the prompts of --input; - is one prompt always")
    if args.output_key == args.prompt_key or args.output_key in (*RESULT_KEYS, *FIGURES):
        args.refuse(f"--output-key {args.output_key} is the name of another member; give a new one")
    if args.workers != 1 and (args.input is None or _prints_text(args)):
        args.refuse("--workers is for a file of many prompts; give --input FILE of them, or leave it out")
    unseen = next((OPTIONS[name].flag for name in FIGURES if getattr(args, name, None) is not None), None)
    if unseen and _prints_text(args):
        args.refuse(f"{unseen} is not shown beside a text; give --json, too")


def _prints_text(args: argparse.Namespace) -> bool:
    """Whether the results are printed as text, with nothing beside it."""
    return not args.json and args.output is None and (args.input is None or _kind(args) == "text")


def _kind(args: argparse.Namespace) -> InputFormat:
    kind: InputFormat = args.input_format or format_of_file(args.input)
    return kind


def run(args: argparse.Namespace, model: Model, config: GenerationConfig, output: Output, negative: str | None) -> int:
    """Run the records of the file with a model, all with the same ``negative`` prompt; see `run_records`."""
    if _prints_text(args):
        with _opened(args.input) as (stream, _):
            record = next(read_records(stream, _kind(args), args.prompt_key))
            return _print_text(model, record, config, output, negative)
    answering = functools.partial(
        answers,
        model,
        config=config,
        output_key=args.output_key,
        batch_size=args.max_batch_size,
        negative_prompt=negative,
    )
    return run_records(args, facts_of_run(args, model.bundle, config, negative), output, answering)


def run_records(args: argparse.Namespace, facts: dict[str, Any], output: Output, answering: Answering) -> int:
    """Write or print what ``answering`` makes of the file's records. Returns 1 where a result is an error.

    Raises PromptError where the input cannot be read, ConfigError for an output file whose results have other
    ``facts``, StorageError where it cannot be written.
    """
    with _opened(args.input) as (stream, size):
        records = _reading(read_records(stream, _kind(args), args.prompt_key), args.input)
        run = _Run(args, answering, size)
        return run.to_output(records, output) if args.output is None else run.to_file(records, facts)


def facts_of_run(
    args: argparse.Namespace, bundle: Bundle, config: GenerationConfig, negative: str | None
) -> dict[str, Any]:
    """What all results have in common, for `run_records`."""
    others = {
        "kv_cache": args.kv_cache,
        "input_format": _kind(args),
        "prompt_key": args.prompt_key,
        "output_key": args.output_key,
    }
    return facts_of(bundle, config, **others, **({} if negative is None else {"negative_prompt": negative}))


def _print_text(model: Model, record: Record, config: GenerationConfig, output: Output, negative: str | None) -> int:
    """Print a text and its continuations."""
    if record.error:
        raise PromptError(f"the input is no prompt: {record.error}")
    completions = model.generate(
        record.prompt, config, num_return_sequences=config.num_return_sequences, negative_prompt=negative
    )
    for completion in completions:
        output.line(f"{record.prompt}{completion.text}")
    return 0


class _Run:
    """One run over the records of a file, and how far it is."""

    def __init__(self, args: argparse.Namespace, answering: Answering, size: int | None) -> None:
        """``size`` is that of the input in bytes, None where nobody knows."""
        self._args, self._answering, self._size = args, answering, size
        self._tokens = self._count = self._failed = 0
        self._began = time.monotonic()

    def to_output(self, records: Iterator[Record], output: Output) -> int:
        """Print the results."""
        progress = Progress("neort", silent=output.is_terminal)
        with contextlib.closing(self._answering(records)) as results, progress:
            for record, result in results:
                output.json(result)
                self._note(record, result, progress)
        return self._ended(self._count, self._failed, "")

    def to_file(self, records: Iterator[Record], facts: dict[str, Any]) -> int:
        """Write the results that the file lacks."""
        args, path = self._args, self._args.output
        if _same_file(args.input, path):
            raise ConfigError(f"--input and --output are both {path}; give the results a file of their own")
        with ResultFile.opened(path, facts, overwrite=args.overwrite) as file:
            file.skip_done(records, args.input)
            before = file.done
            args.left = lambda: f"{file.done} results are in {path}; the same command goes on after them"
            if before:
                tell(f"neort: {before} results are in {path} already; going on after them")
            with contextlib.closing(self._answering(records)) as results, Progress("neort") as progress:
                for record, result in results:
                    file.append(result)
                    self._note(record, result, progress)
            return self._ended(file.done, file.failed, f" in {path}")

    def _note(self, record: Record, result: dict[str, Any], progress: Progress) -> None:
        self._count += 1
        self._failed += "error" in result
        new = result.get("new_tokens", 0)
        self._tokens += sum(new) if isinstance(new, list) else new
        rate = self._tokens / max(time.monotonic() - self._began, 1e-9)
        fraction = record.end / self._size if self._size else None
        progress.update(fraction, f"{record.index + 1:,} done, {rate:,.0f} tokens/s")

    def _ended(self, done: int, failed: int, where: str) -> int:
        if failed:
            tell(f'neort: {failed} of {done} results{where} are errors; their "error" says why')
        return 1 if failed else 0


@contextlib.contextmanager
def _opened(name: str) -> Iterator[tuple[BinaryIO, int | None]]:
    """The input, and its size where it has one. Raises PromptError where it cannot be opened."""
    if name == STANDARD:
        if sys.stdin is None:
            raise PromptError("standard input is closed, and --input - reads it; give a file")
        yield sys.stdin.buffer, None
        return
    with contextlib.ExitStack() as stack:
        try:
            stream = stack.enter_context(open(name, "rb"))
        except OSError as error:
            raise _unreadable(name, error) from None
        yield stream, os.fstat(stream.fileno()).st_size or None


def _reading(records: Iterator[Record], name: str) -> Iterator[Record]:
    """The records. Raises PromptError where the file cannot be read to its end."""
    try:
        yield from records
    except OSError as error:
        raise _unreadable(name, error) from None


def _unreadable(name: str, error: OSError) -> PromptError:
    return PromptError(f"{name} cannot be read ({error.strerror or error}); give a file with prompts")


def _same_file(name: str, path: Path) -> bool:
    try:
        return name != STANDARD and os.path.samefile(name, path)
    except OSError:
        return False
