"""The session's cache: local layers read their window only, and nobody can tell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from neort import cache, session
from neort.bundle import Bundle, ModelSpec
from neort.cache import ROW_STEP, first_row
from neort.session import DecoderSession

CHUNK = 64


def whole_past(spec: ModelSpec, shortest: int, kv_cache: str) -> int:
    return 0


def steps(bundle: Path, lengths: list[int], count: int) -> NDArray[np.float32]:
    """Logits [count, B, V] of decode steps behind prompts of ``lengths`` tokens."""
    runner = DecoderSession(Bundle(bundle), num_threads=2)
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
    monkeypatch.setattr(session, "first_row", whole_past_in_steps)
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
    monkeypatch.setattr(session, "first_row", whole_past)
    whole = steps(bundle_path, [448], 1)
    assert np.abs(windowed - whole).max() < 0.1  # int8: single roundings may flip
    assert (windowed.argmax(-1) == whole.argmax(-1)).all()


def test_a_buffer_has_room_for_a_past_that_begins_late(bundle_path: Path) -> None:
    spec = Bundle(bundle_path).spec
    buffers = cache.KVCache(spec, 2)
    buffers.reserve(2, [])
    assert all(buffer.shape[0] == 2 and not buffer.any() for buffer in buffers.buffers.values())
