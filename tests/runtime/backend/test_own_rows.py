"""Each prompt's own last rows, of a run of several that are padded on the right."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from neort.backend import common_rows, own_rows

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=5)


@given(LENGTHS, st.data())
def test_a_prompt_s_last_rows_are_found_among_the_run_s(lengths: list[int], data: st.DataObject) -> None:
    """A row holds its prompt and its place."""
    prompts = [np.zeros(length, np.int64) for length in lengths]
    longest = max(lengths)
    count = data.draw(st.integers(0, longest))
    places = np.stack([np.stack([np.full(longest, i), np.arange(longest)], -1) for i in range(len(lengths))])
    found = own_rows(places[:, longest - common_rows(prompts, count) :].astype(np.float32), prompts, count)
    assert found.shape == (len(lengths), count, 2)
    for i, (rows, length) in enumerate(zip(found.tolist(), lengths, strict=True)):
        assert rows[max(0, count - length) :] == [[i, place] for place in range(max(0, length - count), length)]


def test_no_more_rows_are_common_than_are_needed() -> None:
    prompts = [np.zeros(length, np.int64) for length in (9, 4)]
    assert [common_rows(prompts, count) for count in (0, 1, 4, 9)] == [0, 6, 9, 9]
