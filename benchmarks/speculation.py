"""How much faster is text with drafts, and how much slower where drafts fail?

    python benchmarks/speculation.py [BUNDLE] [--draft prompt-lookup] [--tokens 160] [--rounds 3]

The model is made to write given texts: whatever its logits, a request takes the text's next token. So acceptance is
that of real text under a model that would write it, and time is that of the model's own runs; random weights
give the same figures as trained ones. Plain and speculative decoding take turns.

    quote    a passage, and then the same passage again
    edit     a passage, and then the same with every twelfth word replaced
    code     the second half of a program
    prose    a novel: whatever repeats there by itself
    hostile  two tokens in random order: every end of the text occurs before, and what follows is a coin's throw

Writes results/speculation-NAME.json.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import neort
from common import write_results
from neort.config import GenerationConfig
from neort.engine import Engine, FinishReason, Request, Stats
from neort.errors import NeortError

ROOT = Path(__file__).parent.parent
PROSE = ROOT / "export" / "neort_export" / "texts" / "verification.txt"
PROGRAM = ROOT / "runtime" / "neort" / "engine.py"
PROMPT = 240  # tokens before the part that is written


class Sink:
    """Ends a request in silence."""

    def push(self, token_id: int) -> bool:
        return False

    def finish(self, reason: FinishReason, stats: Stats) -> None:
        self.stats = stats

    def fail(self, error: NeortError) -> None:
        raise error


class Dictated(Request):
    """A request that writes a given text."""

    def __init__(self, prompt: list[int], text: list[int], sink: Sink) -> None:
        config = GenerationConfig(max_new_tokens=len(text))
        super().__init__(np.array(prompt, np.int64), config, sink)
        self.text = text

    def choose(self, logits: NDArray[np.float32]) -> int:
        super().choose(logits)  # what it costs
        return self.text[len(self.token_ids)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", nargs="?", help="default: the bundled model")
    parser.add_argument("--draft", default="prompt-lookup")
    parser.add_argument("--tokens", type=int, default=160, help="written in each text")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    model = neort.load(args.bundle, draft=args.draft)
    drafting = model._engine
    plain = Engine(drafting.runner)
    rows: dict[str, Any] = {}
    for name, (prompt, text) in texts(model, args.tokens).items():
        rows[name] = compare(plain, drafting, prompt, text, args.rounds)
        print(name, rows[name], flush=True)
    facts = {"bundle": model.bundle.path.name, "format": model.bundle.quantization, "draft": args.draft, "texts": rows}
    write_results(f"speculation-{model.bundle.path.name}", facts)


def texts(model: neort.Model, count: int) -> dict[str, tuple[list[int], list[int]]]:
    """Prompt and what is written, in tokens."""
    encode = model.tokenizer.encode
    prose, program = PROSE.read_text(encoding="utf-8"), PROGRAM.read_text(encoding="utf-8")
    passage = encode(prose)[:PROMPT]
    words, other = model.tokenizer.decode(passage).split(" "), prose[-2000:].split()
    edited = encode(" ".join(other[i] if i % 12 == 11 else word for i, word in enumerate(words)))
    code = encode(program)[-PROMPT - count :]
    coins = random.Random(0).choices(passage[:2], k=PROMPT + count)
    return {
        "quote": (passage, passage[:count]),
        "edit": (passage, edited[:count]),
        "code": (code[:PROMPT], code[PROMPT:]),
        "prose": (passage, encode(prose)[PROMPT : PROMPT + count]),
        "hostile": (coins[:PROMPT], coins[PROMPT:]),
    }


def compare(plain: Engine, drafting: Engine, prompt: list[int], text: list[int], rounds: int) -> dict[str, Any]:
    """Seconds for the tokens after the first, by either engine in turns; the medians' ratio."""
    raw: dict[str, list[float]] = {"plain": [], "speculative": []}
    stats = {}
    for i in range(rounds + 1):
        for name, engine in (("plain", plain), ("speculative", drafting)):
            request = Dictated(prompt, text, Sink())
            engine.submit(request)
            while not request.token_ids:
                engine.step()
            began = time.perf_counter()
            while not request.done:
                engine.step()
            if i:  # the first round warms up
                raw[name].append(round(time.perf_counter() - began, 4))
            stats[name] = request.stats()
    medians = {name: statistics.median(seconds) for name, seconds in raw.items()}
    found = stats["speculative"]
    return {
        "tokens": len(text),
        "speed_up": round(medians["plain"] / medians["speculative"], 3),
        "drafted_tokens": found.drafted_tokens,
        "accepted_tokens": found.accepted_tokens,
        "seconds": raw,
    }


if __name__ == "__main__":
    main()
