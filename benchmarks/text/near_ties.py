"""At how many places do drafts change greedy text, and how close are the two tokens there?

    python -m benchmarks.text.near_ties TEXT [BUNDLE] [--prompts 24] [--tokens 150]

The model continues passages of TEXT, greedy and without a penalty, plain and with prompt lookup, with either cache.
After the first difference two texts are two texts, so what follows it is not compared. A place's gap is the difference
of its two largest logits, as a run over the whole text so far computes them.

Writes results/near_ties.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Literal

import numpy as np

import neort
from neort.bundle import bundled_path

from ..harness.arguments import script_parser
from ..harness.results import write_results

PROMPT = 160
GREEDY: dict[str, Any] = {"do_sample": False, "repetition_penalty": 1.0}


def main() -> None:
    args = parse_args()
    caches = {cache: compare(args, cache) for cache in ("fp32", "int8")}
    print(caches)
    bundle = Path(args.bundle or bundled_path()).name
    write_results("near_ties", {"bundle": bundle, "text": args.text.name, "caches": caches})


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("text", type=Path)
    parser.add_argument("bundle", nargs="?", help="default: the bundled model")
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=150)
    return parser.parse_args()


def compare(args: argparse.Namespace, cache: Literal["fp32", "int8"]) -> dict[str, Any]:
    """Tokens that were compared, how many of them were drafted, and the gaps of the places that differ."""
    plain = neort.load(args.bundle, kv_cache=cache)
    drafting = neort.load(args.bundle, kv_cache=cache, draft="prompt-lookup")
    ids = plain.tokenizer.encode(args.text.read_text(encoding="utf-8"))
    compared = accepted = 0
    gaps = []
    for start in np.linspace(0, len(ids) - PROMPT, args.prompts).astype(int):
        prompt = ids[start : start + PROMPT]
        with_drafts = drafting.generate(prompt, max_new_tokens=args.tokens, **GREEDY)
        one, other = plain.generate(prompt, max_new_tokens=args.tokens, **GREEDY).token_ids, with_drafts.token_ids
        accepted += with_drafts.stats.accepted_tokens
        same = next((at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), None)
        compared += len(one) if same is None else same + 1
        if same is not None:
            second, first = np.sort(plain.logits([*prompt, *one[:same]])[-1])[-2:]
            gaps.append(round(float(first - second), 4))
    return {"compared": compared, "accepted": accepted, "gaps": gaps}


if __name__ == "__main__":
    main()
