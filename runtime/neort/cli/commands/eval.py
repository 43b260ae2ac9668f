"""``neort eval``: how well bundles foretell texts, side by side."""

from __future__ import annotations

import argparse
import functools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...bundle import Bundle, bundled_path
from ...hub import find_bundle
from ...loading import load
from ...scoring import Perplexity
from ..arguments import FOLDER, add_kv_cache, named, named_path
from ..display import Progress, aligned
from ..documents import SPLITS, read_documents
from ..streams import Output, tell

__all__ = ["add_parser", "run"]

UNKNOWN = "<unk>"
DEFINITIONS = {
    "tokens": "tokens of the model's own tokenizer, each foretold once, after as much before it as fits",
    "words": r"pieces between white space, len(re.split(r'\s+', document)), as lm-eval counts them",
    "bytes": "bytes of the documents in UTF-8",
    "token_perplexity": "exp(-log-likelihood / tokens); for models with the same tokenizer only",
    "word_perplexity": "exp(-log-likelihood / words), lm-eval's word_perplexity",
    "byte_perplexity": "exp(-log-likelihood / bytes), lm-eval's byte_perplexity",
    "bits_per_byte": "-log-likelihood / (bytes * ln 2), lm-eval's bits_per_byte",
}


@dataclass(frozen=True)
class _File:
    name: str
    documents: list[str]


@dataclass(frozen=True)
class _Evaluation:
    """What one bundle reaches on each file."""

    bundle: str
    quantization: str
    parts: list[Perplexity]
    seconds: float


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("eval", help="measure perplexity and bits per byte on texts", allow_abbrev=False)
    parser.add_argument(
        "files",
        nargs="+",
        type=named_path,
        metavar="FILE",
        help="a text, one document; or lines of JSON (.jsonl, .ndjson)",
    )
    parser.add_argument(
        "-m",
        "--bundle",
        "--model",
        dest="bundles",
        action="append",
        type=named,
        metavar="BUNDLE",
        help=f"{FOLDER}; may be given several times, to compare",
    )
    parser.add_argument("--split-on", choices=list(SPLITS), default="nothing", help="what separates a file's documents")
    parser.add_argument("--field", type=named, default="text", metavar="KEY", help="JSON lines: the text's key (text)")
    parser.add_argument("--max-length", type=int, metavar="N", help="tokens in a window; default: all positions")
    parser.add_argument("--num-threads", type=int, metavar="N", help="default: the CPUs this process may use")
    add_kv_cache(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run, refuse=parser.error)


def run(args: argparse.Namespace, output: Output) -> int:
    """Evaluate. Raises what `load` and `Model.perplexity` do, PromptError for a file that cannot be read."""
    if args.max_length is not None and args.max_length < 1:
        args.refuse(f"--max-length is {args.max_length}; it must be at least 1")
    files = [_File(str(file), read_documents(file, args.split_on, args.field)) for file in args.files]
    bundles = args.bundles or [str(bundled_path())]
    for bundle in bundles:  # all of them before the first one runs
        _check_length(args, bundle)
    notes = _notes(files)
    if not args.json:
        for note in notes:
            tell(f"neort: {note}")
    evaluations = [_evaluate(bundle, files, args) for bundle in bundles]
    if args.json:
        output.json(_as_json(files, evaluations, notes), indent=1)
        return 0
    for i, file in enumerate(files):
        _table(output, _title(file), evaluations, [each.parts[i] for each in evaluations])
    if len(files) > 1:
        totals = [Perplexity.total(each.parts) for each in evaluations]
        _table(output, "all files", evaluations, totals)
    for name, definition in DEFINITIONS.items():
        output.line(f"{_spoken(name)}: {definition}")
    return 0


def _check_length(args: argparse.Namespace, bundle: str) -> None:
    longest = Bundle(find_bundle(bundle)).spec.max_position_embeddings
    if args.max_length is not None and args.max_length > longest:
        args.refuse(f"--max-length is {args.max_length}; {bundle} has {longest} positions")


def _evaluate(bundle: str, files: Sequence[_File], args: argparse.Namespace) -> _Evaluation:
    model = load(bundle, num_threads=args.num_threads, kv_cache=args.kv_cache)
    texts, began, parts = model.scorer(args.max_length), time.perf_counter(), []
    for file in files:
        with Progress(f"{Path(bundle).name} on {Path(file.name).name}") as progress:
            told = functools.partial(_tell, progress)
            parts.append(Perplexity.total(texts.perplexities(file.documents, told)))
    return _Evaluation(bundle, model.bundle.quantization, parts, time.perf_counter() - began)


def _tell(progress: Progress, done: int, total: int, log_likelihood: float) -> None:
    """Show how far it is, and the estimate."""
    estimate = Perplexity(log_likelihood, done, 0, 0).token
    progress.update(done / total, f"perplexity {estimate:.4g}, {done:,} of {total:,} tokens")


def _notes(files: Sequence[_File]) -> list[str]:
    """What a reader must know of the texts."""
    return [
        f"{file.name} is tokenized text (it holds {UNKNOWN}, as WikiText's tokenized form does): its figures cannot be "
        "compared with those of raw WikiText, which model cards give"
        for file in files
        if any(UNKNOWN in document for document in file.documents)
    ]


def _title(file: _File) -> str:
    count = len(file.documents)
    return f"{file.name}: {count:,} document{'s' if count > 1 else ''}"


def _figures(each: Perplexity) -> dict[str, float]:
    return {
        "tokens": each.tokens,
        "words": each.words,
        "bytes": each.bytes,
        "token_perplexity": each.token,
        "word_perplexity": each.word,
        "byte_perplexity": each.byte,
        "bits_per_byte": each.bits_per_byte,
    }


def _table(output: Output, title: str, evaluations: Sequence[_Evaluation], parts: Sequence[Perplexity]) -> None:
    """A column for each bundle, a row for each figure."""
    names = [Path(each.bundle).name for each in evaluations]
    if len(set(names)) < len(names):
        names = [each.bundle for each in evaluations]
    rows = [["", *names], ["format", *(each.quantization for each in evaluations)]]
    columns = [_figures(part) for part in parts]
    for name in DEFINITIONS:
        rows.append([_spoken(name), *(_number(column[name]) for column in columns)])
    output.line(title)
    for line in aligned(rows, "l" + "r" * len(names)):
        output.line(line)
    output.line("")


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4f}" if value < 1e6 else f"{value:.5g}"


def _spoken(name: str) -> str:
    return name.replace("_", " ")


def _as_json(files: Sequence[_File], evaluations: Sequence[_Evaluation], notes: Sequence[str]) -> dict[str, Any]:
    def described(part: Perplexity) -> dict[str, float | None]:
        figures = {"log_likelihood": part.log_likelihood, **_figures(part)}
        return {name: value if math.isfinite(value) else None for name, value in figures.items()}

    return {
        "bundles": [
            {
                "bundle": each.bundle,
                "quantization": each.quantization,
                "seconds": each.seconds,
                "files": [
                    {"file": file.name, "documents": len(file.documents), **described(part)}
                    for file, part in zip(files, each.parts, strict=True)
                ],
                "total": described(Perplexity.total(each.parts)),
            }
            for each in evaluations
        ],
        "definitions": DEFINITIONS,
        "notes": list(notes),
    }
