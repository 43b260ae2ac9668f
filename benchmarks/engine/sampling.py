"""What do the decoding options cost per token, and what does all that Python does cost, next to a decode step?

    python -m benchmarks.engine.sampling BUNDLE [--sequences 64] [--length 512] [--rounds 300]

Times what chooses a token (all processors, and the draw) for some sets of options, on logits as large as the bundle's
vocabulary whose probabilities follow Zipf's law, after a text of ``--length`` tokens; then a step of the engine with
``--sequences`` streams on a model that takes no time, so that the rest is left: choosing, text, stop strings,
bookkeeping; and a decode step of the model for one and for ``--sequences`` sequences. The engine works on one thread,
sequence by sequence, while the model waits, so its share of a step is

    time of the engine / (time of the model + time of the engine)

Times are the least of many, since what else runs on the machine only adds to them; steps need a quiet machine
nevertheless, since all CPUs work on them. Updates results/sampling.json.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from neort.arrays import Ids, Logits
from neort.backend import DecoderSession
from neort.bundle import Bundle
from neort.engine import Collector, EngineCore
from neort.generation import GenerationConfig, TokenChooser
from neort.tokenizer import Tokenizer

from ..harness.arguments import script_parser
from ..harness.results import write_results
from ..harness.timing import fastest
from .instant import InstantRunner
from .sessions import fill_cache, random_ids

USUAL: dict[str, Any] = {
    "do_sample": True,
    "repetition_penalty": 1.2,
    "temperature": 0.8,
    "top_k": 50,
    "top_p": 0.95,
}
ALL: dict[str, Any] = USUAL | {
    "sequence_bias": [[[3, 4], 1.0], [[5], 2.0]],
    "logit_bias": {7: 1.0},
    "frequency_penalty": 0.5,
    "presence_penalty": 0.5,
    "dry_multiplier": 0.8,
    "no_repeat_ngram_size": 3,
    "bad_words_ids": [[i, i + 1] for i in range(100)] + [[i] for i in range(200, 300)],
    "eos_token_id": 0,
    "max_new_tokens": 10_000,
    "min_new_tokens": 10_000,
    "remove_invalid_values": True,
    "exponential_decay_length_penalty": (10_000, 1.01),
    "suppress_tokens": list(range(400, 420)),
    "begin_suppress_tokens": [3],
    "top_n_sigma": 3.0,
    "top_h": 0.9,
    "min_p": 0.01,
    "typical_p": 0.95,
    "epsilon_cutoff": 1e-4,
    "eta_cutoff": 1e-4,
    "xtc_probability": 0.5,
    "renormalize_logits": True,
}
SETS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "greedy, repetition_penalty": {"repetition_penalty": 1.2},
    "sampling, top_k 50": {"do_sample": True},
    "temperature, top_k 50, top_p": {name: value for name, value in USUAL.items() if name != "repetition_penalty"},
    "repetition_penalty, temperature, top_k 50, top_p": USUAL,
    "temperature, top_p of the whole vocabulary": {"do_sample": True, "temperature": 0.8, "top_k": 0, "top_p": 0.95},
    "every option at once": ALL,
}


def main() -> None:
    args = parse_args()
    bundle = Bundle(args.bundle)
    size = bundle.spec.vocab_size
    choices = {name: choice_seconds(options, size, args.length, args.rounds) for name, options in SETS.items()}
    engine = {}
    if args.sequences:
        tokenizer = Tokenizer.from_file(bundle.file("tokenizer.json"))
        steps = [logits_block(args.sequences, size, seed) for seed in range(2)]
        engine = {name: engine_seconds(options, steps, tokenizer, args.length) for name, options in SETS.items()}
    counts = (1, args.sequences) if args.sequences else ()
    models = {count: step_seconds(bundle, count, args.length) for count in counts}
    facts = {
        "bundle": bundle.path.name,
        "vocab_size": size,
        "length": args.length,
        "choice_milliseconds": {name: round(1e3 * seconds, 4) for name, seconds in choices.items()},
        "engine_milliseconds": {name: round(1e3 * seconds, 3) for name, seconds in engine.items()},
        "step_milliseconds": {count: round(1e3 * seconds, 2) for count, seconds in models.items()},
    }
    print(facts, flush=True)
    write_results("sampling", facts)


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("bundle")
    parser.add_argument("--sequences", type=int, default=64, help="0: choices alone, on a busy machine")
    parser.add_argument("--length", type=int, default=512, help="tokens of the text so far")
    parser.add_argument("--rounds", type=int, default=300)
    return parser.parse_args()


def choice_seconds(options: dict[str, Any], size: int, length: int, rounds: int) -> float:
    """Seconds that choosing one token takes."""
    ids, logits = repetitive_ids(size, length), zipf_logits(size)
    chooser = TokenChooser.from_config(GenerationConfig(seed=0, **options), length // 2)
    return fastest(lambda: chooser.choose(ids, logits), rounds)


def engine_seconds(
    options: dict[str, Any], steps: list[Logits], tokenizer: Tokenizer, length: int, rounds: int = 50
) -> float:
    """Seconds of a step of the engine for as many streams as ``steps``, [B, V] each, have rows, without the model."""
    count, size = steps[0].shape
    core = EngineCore(InstantRunner(steps, positions=1 << 15), prefill_runs=count * length)
    for seed in range(count):
        config = GenerationConfig(**({"max_new_tokens": 10_000, "seed": seed} | options))
        stream = Collector(random_prompt(size, length, seed), config, 0, tokenizer, streamed=True)
        core.submit(stream.request)
    core.step()
    if len(core.running) != count:
        raise RuntimeError(f"{len(core.running)} of {count} streams run: what is measured is not a step of all")
    return fastest(core.step, rounds)


def random_prompt(size: int, length: int, seed: int) -> Ids:
    """Token ids [T] that differ from stream to stream."""
    return np.random.default_rng(seed).integers(0, size, length)


def logits_block(count: int, size: int, seed: int) -> Logits:
    """`zipf_logits` of several sequences, float32 [B, V], each in an order of its own."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(zipf_logits(size)) for _ in range(count)])


def repetitive_ids(size: int, length: int) -> Ids:
    """A text that ends in ten tokens that it had before."""
    ids = np.random.default_rng(0).integers(0, size, length)
    ids[length // 3 : length // 3 + 10] = ids[-10:]
    return ids


def zipf_logits(size: int) -> Logits:
    """Logits of probabilities that fall with the rank, as those of words do."""
    ranks = np.random.default_rng(1).permutation(size) + 1
    return (-1.5 * np.log(ranks)).astype(np.float32)


def step_seconds(bundle: Bundle, sequences: int, length: int, rounds: int = 20) -> float:
    """Seconds of a decode step of some sequences, each after ``length`` tokens."""
    session = DecoderSession(bundle, max_batch_size=sequences)
    session.reserve(sequences, [])
    fill_cache(session)
    ids, lengths = random_ids(bundle.spec, sequences), np.full(sequences, length, np.int32)
    return fastest(lambda: session.decode(ids, lengths), rounds)


if __name__ == "__main__":
    main()
