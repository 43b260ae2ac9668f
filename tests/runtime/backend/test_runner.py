"""The session's cache: local layers read their window only, a dummy may stand beside a step, and nobody can tell."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from neort.backend import DecoderSession, first_row, inputs
from neort.backend import runner as session
from neort.backend.inputs import ROW_STEP
from neort.bundle import Bundle, ModelSpec
from neort.kvcache import CacheType
from neort.kvcache import buffers as cache

CHUNK = 64


def whole_past(spec: ModelSpec, shortest: int, kv_cache: str) -> int:
    return 0


def steps(bundle: Path, lengths: list[int], count: int, kv_cache: CacheType = "fp32") -> NDArray[np.float32]:
    """Logits [count, B, V] of decode steps after prompts of ``lengths`` tokens."""
    runner = DecoderSession(Bundle(bundle), num_threads=2, max_batch_size=len(lengths), kv_cache=kv_cache)
    runner.reserve(len(lengths), [])
    random = np.random.default_rng(0)
    for slot, length in enumerate(lengths):
        ids = random.integers(0, runner.spec.vocab_size, length)
        for start in range(0, length, CHUNK):
            runner.prefill(slot, ids[start : start + CHUNK], start, 0)
    now = np.array(lengths, np.int32)
    fed = random.integers(0, runner.spec.vocab_size, (count, len(lengths)))
    return np.array([runner.decode(ids, now + i).copy() for i, ids in enumerate(fed)])


@pytest.mark.parametrize("lengths", [[100], [126], [300], [300, 140, 470], [20, 400]])
def test_steps_that_read_the_window_only_have_the_bits_of_those_that_read_everything(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch, lengths: list[int]
) -> None:
    windowed = steps(bundle_path, lengths, 40)
    # prefill keeps its windows, so that both sequences of steps begin with the same cache
    monkeypatch.setattr(inputs, "first_row", whole_past_in_steps)
    assert np.array_equal(windowed, steps(bundle_path, lengths, 40))


def whole_past_in_steps(spec: ModelSpec, shortest: int, kv_cache: str) -> int:
    """A prefill begins at a multiple of CHUNK here; the steps' lengths begin at one of the prompts' lengths."""
    return first_row(spec, shortest) if shortest % CHUNK == 0 else 0


def test_local_layers_are_bound_to_less_than_the_window_and_a_step_more(bundle_path: Path) -> None:
    spec = Bundle(bundle_path).spec
    for length in range(spec.max_position_embeddings):
        read = length - first_row(spec, length)
        assert min(length, spec.window_size - 1) <= read < spec.window_size - 1 + ROW_STEP


def test_prefill_in_windows_agrees_with_prefill_of_everything(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    windowed = steps(bundle_path, [448], 1)
    monkeypatch.setattr(inputs, "first_row", whole_past)
    whole = steps(bundle_path, [448], 1)
    assert np.abs(windowed - whole).max() < 0.1  # int8: single roundings may flip
    assert (windowed.argmax(-1) == whole.argmax(-1)).all()


def test_a_buffer_has_room_for_a_past_that_begins_late(bundle_path: Path) -> None:
    spec = Bundle(bundle_path).spec
    buffers = cache.KVCache(spec, 2)
    buffers.reserve(2, [])
    assert all(buffer.shape[0] == 2 and not buffer.any() for buffer in buffers.buffers.values())


# A dummy beside the sequences of a step, as where threads outnumber their heads


def always_split(num_threads: int, spec: ModelSpec) -> int:
    """Threads that outnumber the heads of any batch."""
    return 100


@pytest.mark.parametrize("lengths", [[100], [300], [300, 300], [140, 300], [500], [1, 1]])
def test_steps_with_a_dummy_have_the_bits_of_those_without(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch, kv_cache: CacheType, lengths: list[int]
) -> None:
    """The batch fills all slots, so that the dummy's lies after the last one."""
    expected = steps(bundle_path, lengths, 12, kv_cache)
    monkeypatch.setattr(session, "split_below", always_split)
    assert np.array_equal(steps(bundle_path, lengths, 12, kv_cache), expected)


@pytest.mark.parametrize("start", [0, 1, 200, 511])
def test_a_prompt_that_ends_in_a_single_token_leaves_the_next_slot_alone(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch, kv_cache: CacheType, start: int
) -> None:
    ids = np.random.default_rng(0).integers(0, 4096, start + 1)
    plain = DecoderSession(Bundle(bundle_path), num_threads=2, kv_cache=kv_cache)
    monkeypatch.setattr(session, "split_below", always_split)
    padded = DecoderSession(Bundle(bundle_path), num_threads=2, kv_cache=kv_cache)
    rows = []
    for runner in (plain, padded):
        runner.reserve(2, [])
        runner.prefill(1, ids[:300], 0, 0)
        before = runner.read(1, 0, 300)
        if start:
            runner.prefill(0, ids[:start], 0, 0)
        rows.append(runner.prefill(0, ids[start:], start, 1))
        assert rows[-1].shape == (1, runner.spec.vocab_size)
        assert all(np.array_equal(array, before[name]) for name, array in runner.read(1, 0, 300).items())
    assert np.array_equal(rows[0], rows[1])


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere memory is not given back at once")
def test_a_long_text_leaves_no_more_of_its_dummies_in_memory_than_a_short_one(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "split_below", always_split)
    runner = DecoderSession(Bundle(bundle_path), num_threads=2, max_batch_size=1)
    runner.reserve(1, [])
    for length in range(1, 500):
        runner.decode(np.array([5]), np.array([length], np.int32))
    written = [np.count_nonzero(rows.any(axis=-1), axis=-1) for rows in runner.read(1, 0, 512).values()]
    assert np.concatenate(written).max() <= 2  # per head: of the last place, and where a page reaches into another slot
