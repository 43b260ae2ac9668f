"""How often does a smaller model foresee what a model writes, and what is that worth?

    python -m benchmarks.engine.draft_model DRAFT TEXT [BUNDLE] [--prompts 24] [--tokens 96]

The model continues passages of TEXT, greedy and sampled, with and without drafts. Acceptance is the share of tokens,
given those before, that the draft model chooses too, with the same random number; it decides how long accepted runs
are. Besides the speed-up measured on these two small models, one is computed for models of the sizes of GPT-Neo 125M
and 1.3B with that acceptance: the decisions of `Speculator` over the measured agreements, with the costs in
results/row_costs.json, of whatever machine, and the best of (1 + a + ... + a^k) / (1 + run + k (token + draft)).

Writes results/draft_model.json.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import neort
from neort.bundle import WEIGHTS, Cost
from neort.generation import TokenChooser
from neort.speculative import Speculator

from ..harness.arguments import script_parser
from ..harness.results import read_results, write_results

PROMPT = 160
SHAPES = ("gpt-neo-125m", "gpt-neo-1.3b")  # of the draft model and of the model, in the computed speed-ups
PLAIN = {"top_p": 1.0, "repetition_penalty": 1.0}  # whatever the bundle's own options are
MODES: dict[str, dict[str, Any]] = {
    "greedy": {**PLAIN, "do_sample": False},
    "temperature 1": {**PLAIN, "do_sample": True, "temperature": 1.0},
    "temperature 0.8, top_p 0.95": {**PLAIN, "do_sample": True, "temperature": 0.8, "top_p": 0.95},
    "the bundle's own options": {},
}


class Models(NamedTuple):
    """The model by itself, the one that drafts, and the model with drafts."""

    plain: neort.Model
    draft: neort.Model
    drafting: neort.Model


class Agreements:
    """Proposes tokens that are right (1) and wrong (0) as they were measured; token ids are places in the sequence."""

    def __init__(self, agreed: list[bool], cost: float) -> None:
        self.agreed, self.cost = agreed, cost

    def start(self) -> Agreements:
        return self

    def source(self, context: list[int]) -> str:
        return "model"

    def propose(self, context: list[int], count: int, fork: Any) -> list[int]:
        return [int(right) for right in self.agreed[len(context) : len(context) + count]]


def main() -> None:
    args = parse_args()
    models = Models(neort.load(args.bundle), neort.load(args.draft), neort.load(args.bundle, draft=args.draft))
    plain, draft, _ = models
    ids = plain.tokenizer.encode(args.text.read_text(encoding="utf-8"))
    starts = np.linspace(0, len(ids) - PROMPT, args.prompts).astype(int)
    prompts = [ids[start : start + PROMPT] for start in starts]
    costs = shapes_costs()
    rows = {}
    for mode, options in MODES.items():
        rows[mode] = measure(models, prompts, {**options, "max_new_tokens": args.tokens}, costs)
        print(mode, rows[mode], flush=True)
    facts = {
        "model": plain.bundle.path.name,
        "draft": draft.bundle.path.name,
        "text": args.text.name,
        "weight_bytes": {m.bundle.path.name: m.bundle.file(WEIGHTS).stat().st_size for m in (plain, draft)},
        "costs_of_125m_drafting_for_1.3b": costs,
        "modes": rows,
    }
    write_results("draft_model", facts)


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("draft", help="the smaller model's bundle")
    parser.add_argument("text", type=Path)
    parser.add_argument("bundle", nargs="?", help="default: the bundled model")
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=96)
    return parser.parse_args()


def shapes_costs() -> dict[str, float]:
    """Decode steps of 1.3B: of a run over drafted tokens, of a token in it, of a token drafted by 125M."""
    measured = (read_results("row_costs") or {"models": {}})["models"]
    if missing := [shape for shape in SHAPES if shape not in measured]:
        raise SystemExit(
            f"results/row_costs.json has no row for {' and '.join(missing)}; "
            "measure both shapes first: python -m benchmarks.engine.row_costs NAME=BUNDLE ..."
        )
    small, large = (measured[shape] for shape in SHAPES)
    steps = [[cell["milliseconds"]["1"] for cell in model["cells"]] for model in (small, large)]
    return {
        "run": large["run"],
        "token": large["token"],
        "draft": round(statistics.mean(a / b for a, b in zip(*steps, strict=True)), 3),
    }


def measure(
    models: Models, prompts: list[list[int]], options: dict[str, Any], costs: dict[str, float]
) -> dict[str, Any]:
    """Acceptance and speed-ups over all prompts."""
    agreed: list[list[bool]] = []
    seconds: dict[str, list[float]] = {"plain": [], "drafting": []}
    drafted = accepted = 0
    for seed, prompt in enumerate(prompts):
        for name, model in (("plain", models.plain), ("drafting", models.drafting)):
            began = time.perf_counter()
            found = model.generate(prompt, seed=seed, **options)
            seconds[name].append(time.perf_counter() - began - found.stats.prefill_seconds)
            if name == "plain":
                agreed.append(agreements(models.draft, prompt, found.token_ids, seed, options))
        drafted, accepted = drafted + found.stats.drafted_tokens, accepted + found.stats.accepted_tokens
    acceptance = statistics.mean(right for sequence in agreed for right in sequence)
    replayed = [replay(sequence, costs) for sequence in agreed]
    return {
        "tokens": sum(map(len, agreed)),
        "acceptance": round(acceptance, 3),
        "measured_speed_up": round(sum(seconds["plain"]) / sum(seconds["drafting"]), 3),
        "drafted_tokens": drafted,
        "accepted_tokens": accepted,
        "computed_speed_up_125m_for_1.3b": round(sum(map(len, agreed)) / sum(replayed), 3),
        "computed_by_formula": formula(acceptance, costs),
    }


def agreements(
    draft: neort.Model, prompt: list[int], written: tuple[int, ...], seed: int, options: dict[str, Any]
) -> list[bool]:
    """For each token written whether the draft model, given those before, chooses it with the same random number."""
    config = draft.generation_config.replace(seed=seed, **options)
    chooser = TokenChooser.from_config(config, len(prompt))
    ids = np.array([*prompt, *written], np.int64)
    rows = draft.logits(ids[:-1])
    return [chooser.choose(ids[:at], rows[at - 1]) == int(ids[at]) for at in range(len(prompt), len(ids))]


def replay(agreed: list[bool], costs: dict[str, float]) -> float:
    """Decode steps of the large model that the sequence takes, drafts included."""
    cost = Cost(costs["run"], costs["token"])
    speculator = Speculator(Agreements(agreed, costs["draft"]), cost)
    written, steps = 0, 0.0
    while written < len(agreed):
        proposed = speculator.draft([0] * written, len(agreed) - written - 1, lambda: lambda logits: 0)
        accepted = next((i for i, right in enumerate(proposed) if not right), len(proposed))
        steps += 1
        if proposed:
            steps += cost.run + len(proposed) * (cost.token + costs["draft"])
            speculator.learn(len(proposed), accepted)
        written += accepted + 1
    return steps


def formula(acceptance: float, costs: dict[str, float]) -> dict[str, float]:
    """The best number of drafted tokens and its speed-up, if each token is accepted independently."""
    rates = {
        k: sum(acceptance**i for i in range(k + 1))
        / (1 + (costs["run"] if k else 0) + k * (costs["token"] + costs["draft"]))
        for k in range(17)
    }
    best = max(rates, key=lambda k: rates[k])
    return {"drafted_tokens": best, "speed_up": round(rates[best], 3)}


if __name__ == "__main__":
    main()
