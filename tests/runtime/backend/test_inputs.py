"""What a run is fed, with a dummy beside its sequences and without."""

from __future__ import annotations

import numpy as np
import pytest

from neort.backend import RunInputs, needs_dummy

IDS = np.array([[7, 8], [9, 10]])
LENGTHS = np.array([40, 37], np.int32)


@pytest.mark.parametrize(
    ("rows", "lengths", "split_below", "needed"),
    [
        (1, [40], 2, True),
        (1, [40, 40], 3, True),
        (1, [40, 40], 2, False),  # threads enough for no more
        (1, [40, 37], 9, False),  # several lengths are never split
        (2, [40], 9, False),  # nor are several rows
        (1, [0], 9, True),
        (1, [40], 0, False),
    ],
)
def test_a_dummy_is_for_one_token_after_few_pasts_of_one_length(
    rows: int, lengths: list[int], split_below: int, needed: bool
) -> None:
    assert needs_dummy(rows, np.array(lengths, np.int32), split_below) is needed


def test_inputs_are_positions_and_lengths_of_each_sequence() -> None:
    inputs = RunInputs(2, 2, logits_to_keep=1, dummy=False)
    inputs.fill(IDS, LENGTHS, 16)
    assert {name: array.tolist() for name, array in inputs.feeds.items()} == {
        "input_ids": [[7, 8], [9, 10]],
        "position_ids": [[40, 41], [37, 38]],
        "seqlens_k": [41, 38],
        "total_sequence_length": 42,
        "local_seqlens_k": [25, 22],
        "local_total_sequence_length": 26,
        "logits_to_keep": 1,
    }


def test_a_dummy_is_a_single_token_without_a_past_however_often_inputs_are_filled() -> None:
    inputs = RunInputs(2, 1, logits_to_keep=1, dummy=True)
    for length in (40, 41):
        inputs.fill(IDS[:, :1], np.array([length, length], np.int32), 16)
        assert inputs.feeds["input_ids"].tolist() == [[7], [9], [0]]
        assert inputs.feeds["position_ids"].tolist() == [[length], [length], [0]]
        assert inputs.feeds["seqlens_k"].tolist() == [length, length, 0]
        assert inputs.feeds["local_seqlens_k"].tolist() == [length - 16, length - 16, 0]
        assert inputs.feeds["total_sequence_length"] == length + 1
