"""A sequence gets the same bits alone and under any load: requests arrive and leave at random, on the bundled model.

The logits that each token is chosen from are compared, not only the tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from fakes import Sink
from neort.arrays import Ids, Logits
from neort.backend import DecoderSession, runner
from neort.bundle import Bundle
from neort.engine import PREFILL_CHUNK, EngineCore, Request
from neort.generation import GenerationConfig, TokenChooser
from neort.kvcache import CacheType, PrefixCache
from neort.runner import IDLE

SLOTS = 5
LENGTHS = [1, 2, 7, 31, 32, 40, 63, 64, 65, 127, 130, 190, 256, 257, 300, 420, 500]  # a window of 128, chunks of 64


@pytest.fixture(params=[False, True], ids=["plain", "dummy"])
def dummies(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without and with the dummy sequence that steps get where threads outnumber heads."""
    if request.param:
        monkeypatch.setattr(runner, "split_below", lambda num_threads, spec: SLOTS)


@dataclass
class Watched:
    """A request and the logits that its tokens were chosen from."""

    prompt: Ids
    new_tokens: int
    seed: int
    rows: list[bytes] = field(default_factory=list)

    def request(self) -> Request:
        def watch(_: Ids, logits: Logits) -> Logits:
            self.rows.append(logits.tobytes())
            return logits

        self.rows = []
        sink = Sink()
        config = GenerationConfig(
            max_new_tokens=self.new_tokens, do_sample=True, seed=self.seed, overflow="truncate_left"
        )
        chooser = TokenChooser.from_config(config, len(self.prompt), 0, processors=[watch])
        sink.request = Request(self.prompt, config, sink, chooser=chooser)
        return sink.request


def engine_on(session: DecoderSession, chunk: int, prefix_bytes: int) -> EngineCore:
    prefixes = PrefixCache(session, budget=prefix_bytes, block_size=chunk)
    return EngineCore(session, prefill_chunk=chunk, prefixes=prefixes)


def watched(random: np.random.Generator, vocab_size: int, count: int) -> list[Watched]:
    """Requests of which some begin alike, or are the same."""
    texts = [random.integers(0, vocab_size, max(LENGTHS)) for _ in range(3)]
    return [
        Watched(texts[random.integers(3)][: random.choice(LENGTHS)], int(random.integers(1, 24)), seed)
        for seed in range(count)
    ]


def run_alone(session: DecoderSession, chunk: int, wanted: list[Watched]) -> list[list[bytes]]:
    rows = []
    for each in wanted:
        core, request = engine_on(session, chunk, 0), each.request()
        core.submit(request)
        while core.busy:
            core.step()
        rows.append(each.rows)
    return rows


def run_under_load(session: DecoderSession, chunk: int, wanted: list[Watched], random: np.random.Generator) -> set[int]:
    """Let requests arrive and some leave at random steps, while texts are read; returns which ones left."""
    core = engine_on(session, chunk, int(random.choice([0, 1 << 26])))
    arrivals = random.integers(0, 40, len(wanted))
    leaving = {int(i): int(arrivals[i] + random.integers(0, 12)) for i in random.permutation(len(wanted))[:3]}
    requests = [each.request() for each in wanted]
    step = 0
    while step < 60 or core.busy:
        for i, request in enumerate(requests):
            if arrivals[i] == step:
                core.submit(request)
            if leaving.get(i) == step:
                core.cancel(request)
        if step == 20 and core.scheduler.slots.end < SLOTS:
            core.logits(wanted[0].prompt)
        core.step()
        step += 1
    return set(leaving)


@pytest.mark.usefixtures("dummies")
@pytest.mark.parametrize(("num_threads", "chunk"), [(1, 64), (2, PREFILL_CHUNK)])
def test_the_logits_of_a_sequence_have_the_same_bits_alone_and_under_load(
    bundle_path: Path, kv_cache: CacheType, num_threads: int, chunk: int
) -> None:
    session = DecoderSession(Bundle(bundle_path), num_threads=num_threads, max_batch_size=SLOTS, kv_cache=kv_cache)
    random = np.random.default_rng(num_threads)
    wanted = watched(random, session.spec.vocab_size, 10)
    expected = run_alone(session, chunk, wanted)
    left = run_under_load(session, chunk, wanted, random)
    for i, (each, rows) in enumerate(zip(wanted, expected, strict=True)):
        assert len(each.rows) == len(rows) or i in left
        assert each.rows == rows[: len(each.rows)]


@pytest.mark.usefixtures("dummies")
def test_a_step_leaves_idle_slots_and_those_behind_it_alone(bundle_path: Path, kv_cache: CacheType) -> None:
    """Beyond the window too, where the past of local layers begins later."""
    session = DecoderSession(Bundle(bundle_path), num_threads=1, max_batch_size=3, kv_cache=kv_cache)
    session.reserve(3, [])
    ids = np.arange(300) + 100
    for slot in range(3):
        session.prefill(slot, ids + slot, 0, 0)
    kept = [session.read(slot, 0, 300) for slot in range(3)]
    alone = session.decode(ids[:1], np.array([300], np.int32))[0].copy()
    session.prefill(0, ids, 0, 0)
    session.move(0, 1, 300)
    session.decode(ids[:1], np.array([300], np.int32))
    beside = session.decode(ids[[1, 0]], np.array([IDLE, 300], np.int32))[1]
    np.testing.assert_array_equal(beside, alone)
    for slot, expected in ((0, kept[0]), (2, kept[2])):
        for name, rows in session.read(slot, 0, 300).items():
            np.testing.assert_array_equal(rows, expected[name])
