"""The command line: files of prompts in, a folder of results out."""

from __future__ import annotations

import argparse
import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

from ...bundle import Bundle
from ...cli.arguments import add_bundle, add_generation_options, add_kv_cache, bundle_of, named, named_path
from ...cli.commands.generate import given_options
from ...cli.display import Progress
from ...cli.ending import EXIT_STATUS, run_command
from ...cli.streams import Output, tell, utf8_argument
from ...cli.unknown import refuse_unknown
from ...errors import NeortError
from ...features import Truncation
from ...generation import OPTIONS
from ...loading import MAX_BATCH_SIZE
from ...wording import shortened
from .actors import AUTO, Settings
from .cluster import LOCAL, Pool
from .job import Job, Outcome
from .libraries import ray
from .parts import FILE_KINDS, found_parts, input_files
from .works import Embedding, Generating, Scoring, Work, check_output_key

__all__ = ["main"]

NAME = "neort.integrations.ray_data"
NONE = "none"
LOOK_EVERY = 2.0  # seconds between two looks at how many parts are done
OUTPUT_KEYS = {"generate": "completion", "score": "log_likelihood", "embed": "embedding"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job and return the command's exit status; ``argv`` None means the process's own arguments."""

    def command(output: Output) -> int:
        parser = make_parser()
        args, unknown = parser.parse_known_args(argv)
        refuse_unknown(parser, unknown)
        with output.alone():
            return run(args)

    return run_command(NAME, command, last=argv is None, left=lambda: "the same command goes on where this run ended")


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {NAME}",
        description="Generate, score or embed the prompts of files on a Ray cluster, each record once.",
        usage="%(prog)s [-h] [OPTION ...] INPUT [INPUT ...] OUTPUT",
        epilog=EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("inputs", nargs="+", type=named, metavar="INPUT", help="file with prompts, or a folder of them")
    parser.add_argument("output", type=named_path, metavar="OUTPUT", help="folder for files of results")
    _add_files(parser)
    add_bundle(parser)
    _add_pool(parser)
    _add_works(parser)
    add_generation_options(parser)
    parser.set_defaults(refuse=parser.error)
    return parser


def run(args: argparse.Namespace) -> int:
    """Run the job. Raises what `Job.run` does, and what an actor raised."""
    work = _work(args)
    check_output_key(work, args.prompt_key)
    files, kind = input_files(args.inputs, args.input_format)
    packed = None if args.packed_weights == NONE else args.packed_weights
    settings = Settings(
        str(Bundle(bundle_of(args)).path.resolve()),
        work,
        args.prompt_key,
        args.max_batch_size,
        args.kv_cache,
        packed if packed in (None, AUTO) else str(Path(packed).resolve()),
    )
    pool = Pool(args.workers, args.num_threads, args.address)
    output = args.output.resolve()
    job = Job(files, kind, output, settings, pool, args.records_per_file, args.overwrite)
    with _shown(output) as began, _plain_errors():
        outcome = job.run(began)
    return _ended(outcome, output)


def _ended(outcome: Outcome, output: Path) -> int:
    if outcome.before == outcome.parts:
        tell(f"{NAME}: all {outcome.parts} parts are in {output} already; there was nothing to do")
    if outcome.errors:
        tell(f'{NAME}: {outcome.errors} of {outcome.records} results in {output} are errors; their "error" says why')
    return 1 if outcome.errors else 0


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """Raise neort's own error where Ray says that a task or an actor has raised it."""
    try:
        yield
    except ray.exceptions.RayError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, NeortError):
            cause = getattr(cause, "cause", None) or cause.__cause__
        if cause is None:
            raise
        raise cause from None


@contextlib.contextmanager
def _shown(output: Path) -> Iterator[Any]:
    """Show how many parts are done, from the call of what is yielded on."""
    ended = threading.Event()
    threads: list[threading.Thread] = []

    def look(before: Outcome, progress: Progress) -> None:
        while not ended.wait(LOOK_EVERY):
            done = len(found_parts(output))
            progress.update(done / before.parts, f"{done:,} of {before.parts:,} parts")

    def began(outcome: Outcome) -> None:
        if 0 < outcome.before < outcome.parts:
            tell(f"{NAME}: {outcome.before} of {outcome.parts} parts are in {output} already; going on after them")
        progress.update(outcome.before / max(1, outcome.parts), f"{outcome.before:,} of {outcome.parts:,} parts")
        threads.append(threading.Thread(target=look, args=(outcome, progress), daemon=True))
        threads[0].start()

    with Progress(NAME) as progress:
        try:
            yield began
        finally:
            ended.set()
            for thread in threads:
                thread.join()


def _work(args: argparse.Namespace) -> Work:
    """What the arguments ask for. Ends with the usage where they contradict each other."""
    options = given_options(args)
    task = "score" if args.score else "embed" if args.embed else "generate"
    if task != "generate" and (options or args.negative_prompt is not None):
        flag = OPTIONS[next(iter(options))].flag if options else "--negative-prompt"
        args.refuse(f"{flag} is for text that is generated; leave it out, or --{task}")
    own = {"score": ["context_key"], "embed": ["layer", "pooling", "normalize", "truncation"]}
    for other, names in own.items():
        given = next((name for name in names if other != task and getattr(args, name) is not None), None)
        if given:
            args.refuse(f"--{given.replace('_', '-')} is for --{other}; leave it out, or give that, too")
    key = args.output_key or OUTPUT_KEYS[task]
    if task == "generate":
        negative = args.negative_prompt
        negative = None if negative is None else utf8_argument(negative, "the negative prompt")
        return Generating(key, options, negative, args.max_batch_size)
    if task == "score":
        return Scoring(key, args.context_key)
    how = {name: getattr(args, name) for name in own["embed"] if getattr(args, name) is not None}
    return Embedding(key, **how)


def _add_files(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("files")
    group.add_argument(
        "--input-format",
        choices=FILE_KINDS,
        help="jsonl: a JSON object a line; lines: a prompt a line; parquet; default: what names end in",
    )
    group.add_argument(
        "--prompt-key", default="prompt", metavar="NAME", help="member or column with the prompt; prompt"
    )
    group.add_argument(
        "--output-key", type=named, metavar="NAME", help=f"its result; {', '.join(OUTPUT_KEYS.values())}"
    )
    group.add_argument("--records-per-file", type=_count, metavar="N", help="in a file of results; 256 at most")
    group.add_argument("--overwrite", action="store_true", help="begin anew where OUTPUT has results")


def _add_pool(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("workers")
    group.add_argument("--workers", type=_count, metavar="N", help="models; default: one for each node")
    group.add_argument("--num-threads", type=_count, metavar="N", help="CPUs of each; default: the node's")
    group.add_argument("--address", default=LOCAL, help="of a cluster, or auto; default: one that ends with the job")
    group.add_argument(
        "--packed-weights",
        type=named,
        default=AUTO,
        metavar="FOLDER",
        help="keep packed weights there, which the workers of a node share; none; default: a folder of each node's own",
    )
    group.add_argument(
        "--max-batch-size",
        type=_count,
        default=MAX_BATCH_SIZE,
        metavar="N",
        help=f"most sequences that a worker decodes together; default: {MAX_BATCH_SIZE}",
    )
    add_kv_cache(group)


def _add_works(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("other work than generating text")
    kinds = group.add_mutually_exclusive_group()
    kinds.add_argument("--score", action="store_true", help="the log-likelihood of each text")
    kinds.add_argument("--embed", action="store_true", help="a vector for each text")
    group.add_argument("--context-key", metavar="NAME", help="what each text that is scored follows")
    group.add_argument("--layer", type=int, metavar="N", help="whose hidden states are a vector; default: the last one")
    group.add_argument("--pooling", choices=("mean", "last"), help="of a text's tokens; default: mean")
    group.add_argument("--normalize", action="store_true", default=None, help="vectors that are one long")
    group.add_argument("--truncation", choices=get_args(Truncation), help="the end of a long text that is cut off")
    parser.add_argument("--negative-prompt", metavar="TEXT", help="what --guidance-scale leads away from")


def _count(text: str) -> int:
    """An argument that is a number from 1 on. Raises argparse.ArgumentTypeError."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"it is {shortened(text)}; give a number from 1 on")
    return int(text)
