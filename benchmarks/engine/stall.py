"""How long does a stream stop while a long prompt arrives, and how much faster are short prompts in one run?

    python -m benchmarks.engine.stall BUNDLE [--name NAME] [--rounds 5] [--prompt 2000] [--chunks 64,128,256]

One stream runs; then a prompt of that many tokens arrives. Each way to read it takes its turn in every round: whole,
as one step (what an engine without interleaving does), and in chunks between steps. The longest and the 99th percentile
of the times between two tokens of the stream, from the prompt's arrival to its first token, and the time to that.
Beside them the stream's usual time between two tokens.

Then sets of short prompts, run one by one and together, likewise in turns.

Writes results/stall-NAME.json: medians over the rounds, in milliseconds, and the rounds.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neort.arrays import Ids
from neort.backend import DecoderSession
from neort.bundle import Bundle
from neort.engine import PREFILL_CHUNK, EngineCore, FinishReason, Request, Stats
from neort.generation import GenerationConfig

from ..harness.arguments import integers, script_parser
from ..harness.results import write_results
from ..harness.timing import seconds

STREAM = 32  # tokens of the stream's prompt
USUAL = 16  # tokens of the stream before the prompt arrives
WHOLE = 1 << 20  # runs of prefill between two steps
SETS = {
    "8 x 32": [32] * 8,
    "8 x 8": [8] * 8,
    "16 x 16": [16] * 16,
    "8 of 16 to 32": [16, 18, 21, 23, 25, 27, 30, 32],
}


class Times:
    """When a request's tokens came."""

    def __init__(self) -> None:
        self.tokens: list[float] = []

    def push(self, token_id: int) -> bool:
        """Note the time."""
        self.tokens.append(time.perf_counter())
        return False

    def go_on(self) -> None:
        """Nothing is to be done."""

    def finish(self, reason: FinishReason, stats: Stats) -> None:
        """Nothing is to be done."""

    def fail(self, error: BaseException) -> None:
        """Raise the error."""
        raise error


def main() -> None:
    args = parse_args()
    write_results(f"stall-{args.name or args.bundle.name}", run(args))


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--name", help="of the results; the bundle's folder's otherwise")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt", type=int, default=2000, help="tokens of the prompt that arrives, at most")
    parser.add_argument("--chunks", type=integers, default=[64, 128, 256])
    parser.add_argument("--threads", type=int)
    return parser.parse_args()


def run(args: argparse.Namespace) -> dict[str, Any]:
    """All ways in turns, a round to warm up before the first."""
    bundle = Bundle(args.bundle)
    session = DecoderSession(bundle, num_threads=args.threads, max_batch_size=max(map(len, SETS.values())))
    length = min(args.prompt, session.spec.max_position_embeddings - 1)
    ways = {"whole": (PREFILL_CHUNK, WHOLE), **{f"chunks of {chunk}": (chunk, 1) for chunk in args.chunks}}
    arrivals: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    shorts: dict[str, list[dict[str, float]]] = {name: [] for name in SETS}
    for turn in range(args.rounds + 1):
        for name, way in ways.items():
            arrivals[name].append(arrival(session, length, *way))
        for name, lengths in SETS.items():
            shorts[name].append(together(session, lengths))
        print(f"round {turn}: {arrivals['whole'][-1]}", flush=True)
    return {
        "bundle": args.name or args.bundle.name,
        "prompt": length,
        "num_threads": session.num_threads,
        "chunk": EngineCore(session).prefill_chunk,
        "arrival_milliseconds": medians(arrivals),
        "short_prompts_milliseconds": medians(shorts),
        "rounds": {"arrival": arrivals, "short_prompts": shorts},
    }


def arrival(session: DecoderSession, length: int, chunk: int, runs: int) -> dict[str, float]:
    """Milliseconds that a stream and a prompt of ``length`` tokens, which arrives meanwhile, wait for tokens."""
    engine = EngineCore(session, prefill_chunk=chunk, prefill_runs=runs)
    stream, prompt = Times(), Times()
    running = submit(engine, stream, ids(session, STREAM), session.spec.max_position_embeddings)
    while len(stream.tokens) <= USUAL:
        engine.step()
    usual = gaps(stream.tokens)
    arrived = time.perf_counter()
    submit(engine, prompt, ids(session, length), 1)
    while not prompt.tokens:
        engine.step()
    stalls = gaps(stream.tokens[USUAL:])
    engine.cancel(running)
    engine.settle()
    return {
        "usual_gap": statistics.median(usual),
        "largest_gap": max(stalls),
        "p99_gap": float(np.percentile(stalls, 99)),
        "time_to_first_token": 1e3 * (prompt.tokens[0] - arrived),
    }


def together(session: DecoderSession, lengths: Sequence[int]) -> dict[str, float]:
    """Milliseconds that some prompts take one by one, and in one run."""
    prompts = [ids(session, length) for length in lengths]
    session.reserve(len(prompts), [])
    one_by_one = seconds(lambda: [session.prefill(slot, prompt, 0, 1) for slot, prompt in enumerate(prompts)])
    return {"one_by_one": 1e3 * one_by_one, "together": 1e3 * seconds(lambda: session.prefill_prompts(0, prompts, 1))}


def submit(engine: EngineCore, sink: Times, prompt: Ids, new_tokens: int) -> Request:
    """Queue a prompt, whose tokens end no sequence."""
    config = GenerationConfig(max_new_tokens=new_tokens, overflow="stop")
    request = Request(prompt, config, sink)
    engine.submit(request)
    return request


def ids(session: DecoderSession, length: int) -> Ids:
    """Token ids that follow from their number."""
    return np.random.default_rng(length).integers(0, session.spec.vocab_size, length)


def gaps(times: list[float]) -> list[float]:
    """Milliseconds from each to the next."""
    return [1e3 * (after - before) for before, after in itertools.pairwise(times)]


def medians(rounds: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Those of each figure, the first round left out."""
    return {
        name: {figure: statistics.median(one[figure] for one in found[1:]) for figure in found[0]}
        for name, found in rounds.items()
    }


if __name__ == "__main__":
    main()
