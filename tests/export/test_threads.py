"""Logits do not depend on the number of threads, nor on who else is in the batch, in any format and with either cache.

onnxruntime's attention cuts a past into blocks whose length depends on the processor's second-level cache: 64 positions
of this model's heads with 512 kB, 1,024 (all that it has) with 8 MB.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

import neort
import neort.backend.runner
from checkpoints import BYTE_TOKENS, random_ids, random_model, save
from neort.backend import DECODERS, DecoderSession, split_below
from neort.bundle import Bundle, Quantization
from neort.kvcache import CACHE_TYPES, CacheType
from neort.verification import batch_difference, chunk_differences
from neort_export import export
from neort_export.verification.layerwise import LayerwiseRunner

HEADS = 2
THREADS = (1, 2, 3, 4, 8, 13, 16, 32)
LENGTHS = (1, 63, 64, 65, 128, 255, 256, 257, 301, 511, 512, 513, 700)
IDS = random_ids(max(LENGTHS) + 1)

Logits = NDArray[np.float32]


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with long heads, whose blocks are short."""
    model = random_model(hidden_size=256 * HEADS, num_heads=HEADS, window_size=300, max_position_embeddings=1024)
    return save(model, tmp_path_factory.mktemp("wide") / "checkpoint")


@pytest.fixture(scope="module", params=get_args(Quantization))
def bundle(request: pytest.FixtureRequest, wide: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("threads") / request.param
    return Bundle(export(wide, folder, quantization=request.param, verify=False).path)


@pytest.fixture(params=list(CACHE_TYPES))
def kv_cache(request: pytest.FixtureRequest, bundle: Bundle) -> CacheType:
    kind: CacheType = request.param
    if DECODERS[kind] not in bundle.file_names:
        pytest.skip("this format has no graph for an int8 cache")
    return kind


class Steps:
    """Decode steps after the first tokens of IDS, which one thread has prefilled."""

    def __init__(self, bundle: Bundle, kv_cache: CacheType) -> None:
        self._bundle, self._kv_cache = bundle, kv_cache
        single = self.session(1)
        single.prefill(0, IDS[:-1], 0, 0)
        self._rows = single.read(0, 0, len(IDS) - 1)

    def session(self, num_threads: int) -> DecoderSession:
        session = DecoderSession(self._bundle, num_threads=num_threads, max_batch_size=3, kv_cache=self._kv_cache)
        session.reserve(3, [])
        return session

    def step(self, session: DecoderSession, *lengths: int) -> Logits:
        """Logits [n, V] of one step after n prompts."""
        for slot, length in enumerate(lengths):
            session.write(slot, 0, {name: rows[:, :length] for name, rows in self._rows.items()})
        places = np.array(lengths, np.int32)
        return session.decode(IDS[places], places).copy()


@pytest.fixture
def steps(bundle: Bundle, kv_cache: CacheType) -> Steps:
    return Steps(bundle, kv_cache)


def test_a_step_has_the_same_bits_on_any_number_of_threads_alone_and_in_a_batch(steps: Steps) -> None:
    one = steps.session(1)
    expected = {length: steps.step(one, length)[0] for length in LENGTHS}
    for num_threads in THREADS:
        session = steps.session(num_threads)
        for length, other in zip(LENGTHS, LENGTHS[1:] + LENGTHS[:1], strict=True):
            for batch in ((length,), (length, length), (length, other), (other, length, other)):
                for row, place in zip(steps.step(session, *batch), batch, strict=True):
                    assert np.array_equal(row, expected[place]), (num_threads, batch)


def test_a_prefill_has_the_same_bits_on_any_number_of_threads(steps: Steps) -> None:
    """Of many tokens, of two, as drafts are verified, and of one."""
    expected: list[Logits] = []
    for num_threads in THREADS:
        session = steps.session(num_threads)
        logits = [session.prefill(0, IDS[start:stop], start, 1) for start, stop in ((0, 600), (600, 602), (602, 603))]
        logits.append(session.extend(IDS[603:607], 603)[-1:].copy())
        expected = expected or logits
        assert np.array_equal(logits, expected), num_threads


def test_the_bits_would_change_without_a_dummy(
    bundle: Bundle, kv_cache: CacheType, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the others would show nothing."""
    if split_below(16, bundle.spec) == 0:
        pytest.skip("a block of this processor's attention holds all positions, so no past is ever split")
    monkeypatch.setattr(neort.backend.runner, "split_below", lambda num_threads, spec: 0)
    one, many = steps.session(1), steps.session(16)
    assert any(not np.array_equal(steps.step(one, n), steps.step(many, n)) for n in LENGTHS)


def test_generated_tokens_are_the_same_alone_and_in_a_list_where_threads_outnumber_heads(
    bundle: Bundle, kv_cache: CacheType
) -> None:
    model = neort.load(bundle.path, num_threads=16, kv_cache=kv_cache, prefix_cache_bytes=0, max_batch_size=2)
    prompts = [random_ids(length, seed=length) for length in (257, 513, 513)]  # 256 tokens a run, and one more
    options: dict[str, Any] = {"max_new_tokens": 12, "do_sample": True, "seed": 1}
    together = [out.token_ids for out in model.generate(prompts, **options)]
    assert together == [model.generate(prompt, **options).token_ids for prompt in prompts]
    few = neort.load(bundle.path, num_threads=1, kv_cache=kv_cache, prefix_cache_bytes=0)
    assert together == [few.generate(prompt, **options).token_ids for prompt in prompts]


def test_a_graph_run_layer_by_layer_has_those_bits_too(
    bundle: Bundle, kv_cache: CacheType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neort_export.verification.layerwise.available_cpus", lambda: 16)
    runner = LayerwiseRunner(ir.load(bundle.file(DECODERS[kv_cache])), bundle.spec)
    ids = IDS[:400] % BYTE_TOKENS
    functions: list[Callable[[Any], Any]] = [
        lambda runner: batch_difference(runner, ids),
        lambda runner: chunk_differences(runner, ids),
    ]
    for function in functions:
        runner.record(function)
    runner.run()
    one = DecoderSession(bundle, num_threads=1, kv_cache=kv_cache)
    assert functions[0](runner) == 0
    assert functions[1](runner) == functions[1](one)
