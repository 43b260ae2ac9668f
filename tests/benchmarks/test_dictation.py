"""The request that writes a given text, by which speculation is timed."""

from __future__ import annotations

import numpy as np

from benchmarks.engine.speculation import Dictation, dictated, lost_steps
from neort.backend import DecoderSession
from neort.bundle import Bundle, bundled_path
from neort.engine import EngineCore


def test_a_dictated_request_writes_its_text_whatever_the_logits() -> None:
    engine = EngineCore(DecoderSession(Bundle(bundled_path()), num_threads=1, max_batch_size=1))
    request = dictated([5, 6, 7], [9, 8, 9, 8])
    engine.submit(request)
    while not request.done:
        engine.step()
    assert request.token_ids == [9, 8, 9, 8]


def test_a_fork_dictates_on_from_where_it_was_made() -> None:
    chooser = Dictation(2, [7, 8, 9]).fork()
    logits = np.zeros(10, np.float32)
    assert [chooser.choose(np.zeros(length, np.int64), logits) for length in (2, 3, 4)] == [7, 8, 9]


def test_runs_with_drafts_are_held_against_the_steps_around_them() -> None:
    steps = [(1.0, False, 0), (3.0, True, 1), (1.0, False, 0)]
    assert lost_steps(steps) == 1.0


def test_a_run_without_a_plain_step_around_it_is_left_out() -> None:
    assert lost_steps([(3.0, True, 0)] * 3) == 0.0
