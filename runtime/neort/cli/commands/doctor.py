"""``neort doctor``: what this machine is to neort: findings, limits, the format that suits it, and what to expect."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ...backend import int8_products_saturate_here
from ...bundle import FORMATS, Bundle, Quantization
from ...diagnostics import (
    Expected,
    Finding,
    Limits,
    MachineFacts,
    bundle_bytes,
    decode_rate,
    expected,
    expected_rate,
    findings,
    fitting_format,
    machine_facts,
    measured_limits,
)
from ...errors import NeortError
from ...loading import load
from ..arguments import add_bundle, bundle_of
from ..display import Progress, add_colour, aligned, bytes_in_words, colours_of
from ..streams import Output

__all__ = ["add_parser", "run"]

TOKENS = 96  # that the measurement on the bundle writes
AS_EXPECTED = 2.0  # measured and predicted rates may differ by so much


@dataclass(frozen=True)
class Report:
    """Everything that the doctor has to say."""

    facts: MachineFacts
    findings: list[Finding]
    limits: Limits | None
    format: str | None
    why: str
    expected: list[Expected]
    bundle: dict[str, Any]


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "doctor", help="tell what this machine can do, and what is in the way", allow_abbrev=False
    )
    add_bundle(parser, positional=True)
    parser.add_argument("--no-measure", action="store_true", help="leave out what takes seconds: limits and rates")
    parser.add_argument("--all", action="store_true", help="show what to expect of every known checkpoint")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_colour(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, output: Output) -> int:
    """Returns 1 where there is a problem."""
    with Progress("neort doctor") as progress:
        report = _examined(args, progress)
    if args.json:
        output.json(asdict(report), indent=1)
    else:
        _print(report, args, output)
    return int(any(finding.status == "problem" for finding in report.findings))


def _examined(args: argparse.Namespace, progress: Progress) -> Report:
    facts, saturates = machine_facts(), int8_products_saturate_here()
    found = list(findings(facts, saturates))
    if args.no_measure:
        return Report(facts, found, None, None, "", [], {})
    limits = measured_limits(facts.threads, unsigned=saturates, tell=lambda what: progress.update(None, what))
    progress.update(None, "the bundle")
    finding, rates = _bundle(args, limits)
    name, why = fitting_format(limits, saturates)
    memory = min((size for size in (facts.memory, facts.memory_limit) if size is not None), default=None)
    return Report(facts, [*found, finding], limits, name, why, list(expected(limits, memory)), rates)


def _bundle(args: argparse.Namespace, limits: Limits) -> tuple[Finding, dict[str, Any]]:
    """What a bundle does beside what is expected of it; a problem where it does not load."""
    try:
        path = bundle_of(args)
        bundle = Bundle(path)
        model = load(path, prefix_cache_bytes=0)
        tokens = min(TOKENS, model.spec.max_position_embeddings - 40)
        measured = decode_rate(model, max(tokens, 2))
    except NeortError as error:
        return Finding("bundle", "problem", str(error)), {}
    name: Quantization = next((each for each in FORMATS if each == bundle.quantization), "int8")
    predicted = expected_rate(bundle_bytes(bundle), bundle.spec.num_layers, name, limits)
    found = f"{bundle.path.name}: {measured:,.0f} tokens/s measured, {predicted:,.0f} predicted"
    rates = {"path": str(path), "format": name, "predicted": predicted, "measured": measured}
    if measured * AS_EXPECTED < predicted:
        remedy = "look for programs that take the CPUs, or the memory's bandwidth"
        return Finding("bundle", "note", found, remedy), rates
    return Finding("bundle", "ok", found), rates


def _print(report: Report, args: argparse.Namespace, output: Output) -> None:
    colours = colours_of(args.color, output)
    width = max(len(finding.name) for finding in report.findings)
    for finding in report.findings:
        status = colours(f"{finding.status:8}", finding.status)
        remedy = f"; {finding.remedy}" if finding.remedy else ""
        output.line(f"{status}{finding.name:{width}}  {finding.found}{remedy}")
    if report.limits is None:
        return
    limits = report.limits
    rates = {"int8": limits.int8_operations_per_second, "fp32": limits.fp32_operations_per_second}
    told = ", ".join(f"{rate / 1e9:,.0f} billion {name} operations/s" for name, rate in rates.items())
    output.line(f"\nlimits: {bytes_in_words(limits.read_bytes_per_second)}/s read, {told}")
    output.line(f"format: {report.format} suits this machine: {report.why}")
    if report.expected:
        output.line("\nwhat to expect, tokens per second of one text: read / written")
        for line in _table(report.expected, every=args.all):
            output.line(line)
        output.line("\nReckoned from the limits, where nothing else runs; neort bench BUNDLE measures.")


def _table(predictions: Sequence[Expected], *, every: bool) -> list[str]:
    """A row for each checkpoint, a column for each format; the smallest are left out unless ``every`` one is wanted."""
    formats = list(dict.fromkeys(each.format for each in predictions))
    names = [name for name in dict.fromkeys(each.checkpoint for each in predictions) if every or "tiny" not in name]
    cells = {(each.checkpoint, each.format): each for each in predictions}
    rows = [("", *formats)]
    rows += [(name, *(_cell(cells[name, form]) for form in formats)) for name in names]
    return aligned(rows, "l" + "r" * len(formats))


def _cell(each: Expected) -> str:
    if each.fits is False:
        return f"needs {bytes_in_words(each.memory)}"
    return f"{_rate(each.prompt_rate)} / {_rate(each.decode_rate)}"


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"
