"""How much faster is text with prompt lookup, and how much slower where its drafts fail?

    python -m benchmarks.engine.speculation [BUNDLE] [--name neo-mini] [--tokens 160] [--rounds 3]

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
from typing import Any

import numpy as np

from neort.arrays import Ids, Logits
from neort.backend import DecoderSession
from neort.bundle import WEIGHTS, Bundle, bundled_path
from neort.engine import EngineCore, FinishReason, Request, Stats
from neort.generation import GenerationConfig, TokenChooser
from neort.speculative import PromptLookup, Speculator, verification_cost
from neort.tokenizer import Tokenizer

from ..harness.arguments import script_parser
from ..harness.files import ROOT
from ..harness.results import earlier_results, write_results
from ..harness.timing import seconds

PROSE = ROOT / "export" / "neort_export" / "verification" / "texts" / "verification.txt"
PROGRAM = ROOT / "runtime" / "neort" / "generation" / "processors.py"
FUNCTION = "def top_k("  # begins the part of PROGRAM in which a name is changed
TEXTS = ("quote", "edit", "rename", "code", "prose", "coins", "hostile")
NEAR = 6  # steps before and after a run that it is compared with
PROMPT = 240  # tokens before the part that is written

Timed = tuple[float, bool, int]  # of a step: seconds, whether it had drafts, how many were accepted


class Sink:
    """Ends a request in silence."""

    def push(self, token_id: int) -> bool:
        return False

    def go_on(self) -> None:
        pass

    def finish(self, reason: FinishReason, stats: Stats) -> None:
        self.stats = stats

    def fail(self, error: BaseException) -> None:
        raise error


class Dictation(TokenChooser):
    """Chooses a given text, whatever the logits, at what a greedy choice costs."""

    def __init__(self, prompt_length: int, text: list[int]) -> None:
        super().__init__()
        self.prompt_length, self.text = prompt_length, text

    def choose(self, ids: Ids, logits: Logits) -> int:
        """See `TokenChooser.choose`."""
        super().choose(ids, logits)
        return self.text[len(ids) - self.prompt_length]


def dictated(prompt: list[int], text: list[int]) -> Request:
    """A request that writes ``text`` after the prompt."""
    config = GenerationConfig(max_new_tokens=len(text))
    return Request(np.array(prompt, np.int64), config, Sink(), chooser=Dictation(len(prompt), text))


def main() -> None:
    args = parse_args()
    bundle = Bundle(args.bundle or bundled_path())
    session = DecoderSession(bundle, max_batch_size=1)
    cost = verification_cost(bundle.quantization, bundle.file(WEIGHTS).stat().st_size, bundle.stated_cost)
    plain, drafting = EngineCore(session), EngineCore(session, speculate=lambda: Speculator(PromptLookup(), cost))
    given = texts(Tokenizer.from_file(bundle.file("tokenizer.json")), args.tokens)
    compare(plain, drafting, *given["prose"], 1)  # warms up
    for text in args.texts or given:
        row = compare(plain, drafting, *given[text], args.rounds)
        print(text, row, flush=True)
        results = earlier_results("speculation") or {"models": {}}
        facts = {"format": bundle.quantization, "prompt_tokens": PROMPT, "texts": {}}
        results["models"].setdefault(args.name or bundle.path.name, facts)["texts"][text] = row
        write_results("speculation", results)


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("bundle", nargs="?", help="default: the bundled model")
    parser.add_argument("--name", help="of the model in the results; default: that of the bundle's folder")
    parser.add_argument("--tokens", type=int, default=160, help="written in each text")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--texts", nargs="*", choices=TEXTS, help="only these; default: all")
    return parser.parse_args()


def texts(tokenizer: Tokenizer, count: int) -> dict[str, tuple[list[int], list[int]]]:
    """Prompt and what is written, in tokens."""
    encode = tokenizer.encode
    prose, program = PROSE.read_text(encoding="utf-8"), PROGRAM.read_text(encoding="utf-8")
    passage = encode(prose)[:PROMPT]
    words, other = tokenizer.decode(passage).split(" "), prose[-2000:].split()
    edited = encode(" ".join(other[i] if i % 12 == 11 else word for i, word in enumerate(words)))
    code = encode(program)[-PROMPT - count :]
    function = encode(program[program.index(FUNCTION) :])[:PROMPT]
    renamed = encode(tokenizer.decode(function).replace("logits", "scores"))
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


def compare(plain: EngineCore, drafting: EngineCore, prompt: list[int], text: list[int], rounds: int) -> dict[str, Any]:
    """Seconds for the tokens after the first, by either engine in turns, each first in turn; the medians' ratio."""
    raw: dict[str, list[float]] = {"plain": [], "speculative": []}
    losses = []
    for i in range(rounds):
        turn = [("plain", plain), ("speculative", drafting)]
        for name, engine in reversed(turn) if i % 2 else turn:
            request = dictated(prompt, text)
            steps = time_steps(engine, request)
            raw[name].append(round(sum(taken for taken, _, _ in steps), 4))
            if name == "speculative":
                found = request.stats()
                losses.append(lost_steps(steps))
    medians = {name: statistics.median(each) for name, each in raw.items()}
    return {
        "tokens": len(text),
        "speed_up": round(medians["plain"] / medians["speculative"], 3),
        "drafted_tokens": found.drafted_tokens,
        "accepted_tokens": found.accepted_tokens,
        "lost_steps": round(statistics.median(losses), 2),
        "seconds": raw,
    }


def time_steps(engine: EngineCore, request: Request) -> list[Timed]:
    """Run a request to its end; the steps after its first token."""
    engine.submit(request)
    while not request.token_ids:
        engine.step()
    steps = []
    while not request.done:
        drafted, accepted = request.drafted, request.accepted
        taken = seconds(engine.step)
        steps.append((taken, request.drafted > drafted, request.accepted - accepted))
    return steps


def lost_steps(steps: list[Timed]) -> float:
    """What runs with drafts took longer than the steps around them, in steps, less the tokens that they won.

    The machine's speed drifts by more within a text than hostile drafts cost; from one step to the next it does not.
    Runs without a plain step around them are left out, so for text that is mostly drafted this says nothing.
    """
    lost = 0.0
    for i, (taken, drafted, accepted) in enumerate(steps):
        near = [other for other, drafts, _ in steps[max(0, i - NEAR) : i + NEAR + 1] if not drafts]
        if drafted and near:
            lost += taken / statistics.median(near) - 1 - accepted
    return lost


if __name__ == "__main__":
    main()
