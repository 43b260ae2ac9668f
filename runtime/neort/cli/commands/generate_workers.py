"""``neort generate --input FILE --workers N``: the prompts of a file by several processes."""

from __future__ import annotations

import argparse
import contextlib
import functools
from pathlib import Path
from typing import Any

from ...batches import Job, answers_of_workers
from ...bundle import Bundle
from ...loading import options_of
from ...workers import described, shares_here, temporary_folder
from ..arguments import bundle_of
from ..streams import Output, tell
from .generate_file import facts_of_run, run_records

__all__ = ["run"]


def run(
    args: argparse.Namespace, loading: dict[str, Any], options: dict[str, Any], output: Output, negative: str | None
) -> int:
    """Run the records of the file; the exit status, the results and the errors are those of one process.

    ``loading`` are arguments of `neort.load`, ``options`` those of generation. Raises ConfigError for more workers than
    the system lets the command have, and what `answers_of_workers` and `run_records` do.
    """
    shares = shares_here(args.workers, args.num_threads)
    bundle = Bundle(Path(bundle_of(args)))
    config = options_of(bundle).replace(**options)
    job = Job(bundle.path, loading, config, args.output_key, args.max_batch_size, negative)
    tell(f"neort: {described(shares)}")
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(temporary_folder()) if args.packed_weights is None else None
        answering = functools.partial(answers_of_workers, job, shares, folder=folder, say=_say)
        return run_records(args, facts_of_run(args, bundle, config, negative), output, answering)


def _say(sentence: str) -> None:
    tell(f"neort: {sentence}")
