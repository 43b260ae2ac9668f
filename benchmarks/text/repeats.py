"""Does a model's text repeat itself, greedy and by its bundle's own options?

    python -m benchmarks.text.repeats [BUNDLE] [--tokens 60,200]

Ten prompts are continued greedily without a penalty, greedily with the repetition penalty that the bundle's
generation_config.json says (what --no-do-sample alone leaves of it), and by all that it says, with seed 0. A text
repeats itself where a run of six of its tokens comes twice; the prompt does not count. The distinct share is that of
different tokens among all. The texts of the shortest length by the bundle's own options are written down, too.

Writes results/repeats.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import neort

from ..harness.arguments import integers, script_parser
from ..harness.results import write_results

RUN = 6  # tokens that come twice
PROMPTS = (
    "It was a dark night and",
    "The captain said",
    "My dear",
    "Once upon a time",
    "The old man",
    "She looked at the fire and",
    "There was no doubt that",
    "In the morning",
    "The house stood",
    '"I do not know," he answered,',
)


def main() -> None:
    args = parse_args()
    model = neort.load(args.bundle)
    own = model.generation_config
    plain = {"do_sample": False, "repetition_penalty": 1.0}
    ways: dict[str, dict[str, Any]] = {
        "greedy, repetition_penalty 1": plain,
        f"greedy, repetition_penalty {own.repetition_penalty:g}": {"do_sample": False},
        "the bundle's own options": {"seed": 0},
    }
    own_texts = model.generate(list(PROMPTS), max_new_tokens=args.tokens[0], seed=0)
    facts = {
        "bundle": model.bundle.path.name,
        "run": RUN,
        "prompts": list(PROMPTS),
        "ways": {way: [measure(model, options, tokens) for tokens in args.tokens] for way, options in ways.items()},
        "texts": [text.text for text in own_texts],
    }
    print(facts["ways"])
    write_results("repeats", facts)


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("bundle", nargs="?", help="default: the bundled model")
    parser.add_argument("--tokens", type=integers, default=[60, 200], help="lengths of the texts")
    return parser.parse_args()


def measure(model: neort.Model, options: dict[str, Any], tokens: int) -> dict[str, Any]:
    """How many of the prompts' texts repeat themselves, and the mean share of different tokens in them."""
    texts = [text.token_ids for text in model.generate(list(PROMPTS), max_new_tokens=tokens, **options)]
    return {
        "tokens": tokens,
        "repeating": sum(repeats(text) for text in texts),
        "distinct_share": round(sum(len(set(text)) / len(text) for text in texts) / len(texts), 3),
    }


def repeats(ids: Sequence[int], run: int = RUN) -> bool:
    """Whether a run of so many tokens comes twice; the two may overlap."""
    runs = [tuple(ids[start : start + run]) for start in range(len(ids) - run + 1)]
    return len(set(runs)) < len(runs)


if __name__ == "__main__":
    main()
