"""How much faster is text with prompt lookup, and how much slower where its drafts fail?

    python benchmarks/speculation.py [BUNDLE] [--name neo-mini] [--tokens 160] [--rounds 3]

The model is made to write given texts: whatever its logits, a request takes the text's next token. So acceptance is
that of real text under a model that would write it, and time is that of the model's own runs; random weights
give the same figures as trained ones. Plain and speculative decoding take turns.

    quote    a passage, and then the same passage again
    edit     a passage, and then the same with every twelfth word replaced
    rename   a function, and then the same with one of its names changed
    code     the second half of a program: whatever repeats there by itself
    prose    a novel, likewise
    coins    two tokens in random order: every draft has even odds
    hostile  five tokens in an order in which nearly every end of the text occurs before, and none goes on as it did

`lost_steps` says what drafting itself cost (negative: won), each run with drafts next to the plain steps around it.
Updates results/speculation.json.
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
from common import earlier_results, write_results
from neort.engine import Engine, Stats
from neort.engine.request import FinishReason, Request
from neort.errors import NeortError
from neort.generation import GenerationConfig
from neort.speculative import PromptLookup

ROOT = Path(__file__).parent.parent
PROSE = ROOT / "export" / "neort_export" / "texts" / "verification.txt"
PROGRAM = ROOT / "runtime" / "neort" / "sampling.py"
TEXTS = ("quote", "edit", "rename", "code", "prose", "coins", "hostile")
NEAR = 6  # steps before and behind a run that it is compared with
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
    parser.add_argument("--name", help="of the model in the results; default: that of the bundle's folder")
    parser.add_argument("--tokens", type=int, default=160, help="written in each text")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--texts", nargs="*", choices=TEXTS, help="only these; default: all")
    args = parser.parse_args()
    model = neort.load(args.bundle, draft="prompt-lookup", max_batch_size=1)
    plain, drafting = Engine(model._session), Engine(model._session, speculate=model._engine.speculate)
    given = texts(model, args.tokens)
    compare(plain, drafting, *given["prose"], 1)  # warms up
    for text in args.texts or given:
        row = compare(plain, drafting, *given[text], args.rounds)
        print(text, row, flush=True)
        results = earlier_results("speculation") or {"models": {}}
        facts = {"format": model.bundle.quantization, "prompt_tokens": PROMPT, "texts": {}}
        results["models"].setdefault(args.name or model.bundle.path.name, facts)["texts"][text] = row
        write_results("speculation", results)


def texts(model: neort.Model, count: int) -> dict[str, tuple[list[int], list[int]]]:
    """Prompt and what is written, in tokens."""
    encode = model.tokenizer.encode
    prose, program = PROSE.read_text(encoding="utf-8"), PROGRAM.read_text(encoding="utf-8")
    passage = encode(prose)[:PROMPT]
    words, other = model.tokenizer.decode(passage).split(" "), prose[-2000:].split()
    edited = encode(" ".join(other[i] if i % 12 == 11 else word for i, word in enumerate(words)))
    code = encode(program)[-PROMPT - count :]
    function = encode(program[program.index("def top_k(") :])[:PROMPT]
    renamed = encode(model.tokenizer.decode(function).replace("logits", "scores"))
    coins = random.Random(0).choices(passage[:2], k=PROMPT + count)
    defiant = hostile(sorted(set(passage))[:5], PROMPT + count)
    return {
        "quote": (passage, passage[:count]),
        "edit": (passage, edited[:count]),
        "rename": (function, renamed[:count]),
        "code": (code[:PROMPT], code[PROMPT:]),
        "prose": (passage, encode(prose)[PROMPT : PROMPT + count]),
        "coins": (coins[:PROMPT], coins[PROMPT:]),
        "hostile": (defiant[:PROMPT], defiant[PROMPT:]),
    }


def hostile(tokens: list[int], count: int) -> list[int]:
    """Text that goes on otherwise than prompt lookup would propose, at each of its tokens."""
    lookup, draw = PromptLookup().start(), random.Random(0)
    text: list[int] = []
    while len(text) < count:
        proposed = lookup.propose(text, 1, lambda: int) if lookup.source(text) else []
        text.append(draw.choice([token for token in tokens if token not in proposed]))
    return text


def compare(plain: Engine, drafting: Engine, prompt: list[int], text: list[int], rounds: int) -> dict[str, Any]:
    """Seconds for the tokens after the first, by either engine in turns, each first in turn; the medians' ratio."""
    raw: dict[str, list[float]] = {"plain": [], "speculative": []}
    losses = []
    for i in range(rounds):
        turn = [("plain", plain), ("speculative", drafting)]
        for name, engine in reversed(turn) if i % 2 else turn:
            request = Dictated(prompt, text, Sink())
            engine.submit(request)
            while not request.token_ids:
                engine.step()
            steps = []
            while not request.done:
                before, began = request.drafted - request.accepted, time.perf_counter()
                accepted = request.accepted
                engine.step()
                seconds = time.perf_counter() - began
                steps.append((seconds, request.drafted > accepted + before, request.accepted - accepted))
            raw[name].append(round(sum(seconds for seconds, _, _ in steps), 4))
            if name == "speculative":
                found = request.stats()
                losses.append(lost_steps(steps))
    medians = {name: statistics.median(seconds) for name, seconds in raw.items()}
    return {
        "tokens": len(text),
        "speed_up": round(medians["plain"] / medians["speculative"], 3),
        "drafted_tokens": found.drafted_tokens,
        "accepted_tokens": found.accepted_tokens,
        "lost_steps": round(statistics.median(losses), 2),
        "seconds": raw,
    }


def lost_steps(steps: list[tuple[float, bool, int]]) -> float:
    """What runs with drafts took longer than the steps around them, in steps, less the tokens that they won.

    The machine's speed drifts by more within a text than hostile drafts cost; from one step to the next it does not.
    Runs without a plain step around them are left out, so for text that is mostly drafted this says nothing.
    """
    lost = 0.0
    for i, (seconds, drafted, accepted) in enumerate(steps):
        near = [other for other, drafts, _ in steps[max(0, i - NEAR) : i + NEAR + 1] if not drafts]
        if drafted and near:
            lost += seconds / statistics.median(near) - 1 - accepted
    return lost


if __name__ == "__main__":
    main()
