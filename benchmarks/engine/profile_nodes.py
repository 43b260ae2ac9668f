"""Where does a run's time go, by kind of node?

    python -m benchmarks.engine.profile_nodes NAME before=BUNDLE after=BUNDLE [--threads 2] [--rounds 9]

onnxruntime's own profiler, on decode steps after prompts of several lengths and on a chunk of a prompt. A row is the
median over rounds: milliseconds of all nodes of a kind in one run, and how many they are. Products are split by linear
layer.
`between nodes` is the rest of the run, the profiler's own cost included; `limit` is what the machine would need at its
measured best for what the products do: reading their weights (decode), or multiplying (prefill).

Bundles, one or several, are profiled one after the other, each under its label. Writes results/profile-NAME.json.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from neort.backend import DecoderSession, available_cpus
from neort.bundle import Bundle, Format
from neort.engine import PREFILL_CHUNK
from neort_export.architectures import ARCHITECTURES

from ..harness.arguments import named_path, script_parser
from ..harness.results import write_results
from ..harness.work import described, linear_weights
from ..machine.roofline import Limits, Machine
from .sessions import fill_cache, random_ids

PRODUCTS = {"MatMulIntegerToFloat", "MatMulNBits", "Gemm", "MatMul"}
MODULES = [
    module.rpartition(".")[2]
    for names in (family.names for family in ARCHITECTURES.values())
    for module in (
        names.packed_query_key_value,
        names.attention_output,
        names.mlp_input,
        names.mlp_output,
        names.head.removesuffix(".weight"),
    )
]
BETWEEN = "between nodes"
STEPS = (32, 512, 1536)  # cached tokens before a decode step
CHUNKS = (0, 256)  # cached tokens before a chunk of a prompt

Rows = dict[str, dict[str, float]]


def main() -> None:
    args = parse_args()
    limits = Machine(args.threads).limits(rounds=5)
    bundles = {}
    for label, path in args.bundles:
        bundle = Bundle(path)
        if (form := bundle.format) is None:
            raise SystemExit(f"{path} is of the format {bundle.quantization}, whose bytes per weight are not known")
        config = bundle.read_json("config.json")
        runs = measure(bundle, args.threads, args.rounds)
        for name, facts in runs.items():
            facts["limit_milliseconds"] = limit(config, form, facts["tokens"], limits)
            print(f"{label}, {name}: {facts['milliseconds']:.1f} ms, limit {facts['limit_milliseconds']:.1f} ms")
        bundles[label] = {"format": form.manifest_section(), "runs": runs}
    write_results(f"profile-{args.name}", {"name": args.name, "limits": asdict(limits), "bundles": bundles})


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("name", help="of the results file")
    parser.add_argument("bundles", nargs="+", type=named_path, metavar="LABEL=BUNDLE")
    parser.add_argument("--threads", type=int, default=available_cpus())
    parser.add_argument("--rounds", type=int, default=9)
    return parser.parse_args()


def measure(bundle: Bundle, threads: int, rounds: int) -> dict[str, Any]:
    """The median profile of each kind of run."""
    spec = bundle.spec
    names = [*(f"decode @{n}" for n in STEPS), *(f"prefill {PREFILL_CHUNK} @{n}" for n in CHUNKS)]
    lengths = dict(zip(names, [*STEPS, *CHUNKS], strict=True))
    fitting = {name: n for name, n in lengths.items() if n + PREFILL_CHUNK <= spec.max_position_embeddings}
    profiles: dict[str, list[Rows]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        session = profiled(bundle, threads, Path(folder) / "profile")
        order = [(name, n) for _ in range(rounds + 1) for name, n in fitting.items()]
        for name, length in order:
            run(session, length, decode=name.startswith("decode"))
        events = json.loads(Path(session.inference_session.end_profiling()).read_text(encoding="utf-8"))
        for (name, _), rows in zip(order, split(events), strict=True):
            profiles[name].append(rows)
    return {
        name: {"tokens": 1 if name.startswith("decode") else PREFILL_CHUNK, "cached": fitting[name]} | median(rows[1:])
        for name, rows in profiles.items()
    }


def profiled(bundle: Bundle, threads: int, prefix: Path) -> DecoderSession:
    """A session with a full cache that notes how long each node takes, in a file whose path begins with ``prefix``."""

    def profile(options: Any) -> None:
        options.enable_profiling, options.profile_file_prefix = True, str(prefix)

    session = DecoderSession(bundle, num_threads=threads, max_batch_size=1, configure=profile)
    session.reserve(1, [])
    fill_cache(session)
    return session


def run(session: DecoderSession, cached: int, *, decode: bool) -> None:
    """One run after ``cached`` positions."""
    ids = random_ids(session.spec, PREFILL_CHUNK, cached)
    if decode:
        session.decode(ids[:1], np.array([cached], np.int32))
    else:
        session.prefill(0, ids, cached, 0)


def split(events: list[dict[str, Any]]) -> Iterator[Rows]:
    """The nodes of each run, by kind."""
    times: dict[str, float] = defaultdict(float)
    counts: Counter[str] = Counter()
    for event in sorted((e for e in events if "ts" in e), key=lambda e: e["ts"] + e["dur"]):
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
            name = kind(event)
            times[name] += event["dur"] / 1000
            counts[name] += 1
        elif event["name"] == "model_run":
            times[BETWEEN] = event["dur"] / 1000 - sum(times.values())
            counts[BETWEEN] = 1
            yield {name: {"milliseconds": times[name], "count": counts[name]} for name in times}
            times.clear()
            counts.clear()


def kind(event: dict[str, Any]) -> str:
    """The operator; of a product, the linear layer too."""
    operator: str = event["args"]["op_name"]
    if operator not in PRODUCTS:
        return operator
    module = next((module for module in MODULES if re.search(rf"\b{module}\b", event["name"])), "")
    return f"{operator} {module}".strip()


def median(profiles: list[Rows]) -> dict[str, Any]:
    """The median of each kind of node over several runs, the longest first."""
    nodes = {
        name: {
            "milliseconds": round(statistics.median(p[name]["milliseconds"] for p in profiles), 4),
            "count": profiles[0][name]["count"],
        }
        for name in profiles[0]
    }
    total = statistics.median(sum(row["milliseconds"] for row in p.values()) for p in profiles)
    order = sorted(nodes, key=lambda name: -nodes[name]["milliseconds"])
    return {"milliseconds": round(total, 3), "nodes": {name: nodes[name] for name in order}}


def limit(config: dict[str, Any], form: Format, tokens: int, limits: Limits) -> float:
    """Milliseconds that the products of a run over so many tokens take at the machine's best, by the config.json.

    A step reads every weight of its format once; a prompt's products are bound by arithmetic.
    """
    if tokens > 1:
        rate = limits.int8_operations_per_second if form.quantized else limits.fp32_operations_per_second
        return round(1000 * 2 * tokens * linear_weights(config) / rate, 3)
    family, dimensions = described(config)
    linears = family.linear_weights(dimensions).values()
    read = sum(form.linear_bytes(linear.rows, linear.columns) for linear in linears)
    read += form.head_bytes(dimensions.vocab_size, dimensions.hidden_size)
    return round(1000 * read / limits.read_bytes_per_second, 3)


if __name__ == "__main__":
    main()
