"""What counts as a repetition, and the table of repetitions."""

from __future__ import annotations

import pytest

from benchmarks.report.text_tables import repeats as table
from benchmarks.report.text_tables import texts
from benchmarks.text.repeats import repeats


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("abcdefxabcdef", True),
        ("aaaaaaa", True),  # two runs of six overlap
        ("aaaaaa", False),
        ("abcdexabcde", False),
        ("abc", False),
        ("", False),
    ],
)
def test_a_text_repeats_itself_where_a_run_of_six_comes_twice(text: str, found: bool) -> None:
    assert repeats([ord(letter) for letter in text]) is found


def test_the_table_of_repetitions_has_a_pair_of_columns_for_each_length() -> None:
    cells = [{"tokens": 60, "repeating": 1, "distinct_share": 0.5}, {"tokens": 90, "repeating": 2, "distinct_share": 1}]
    lines = table({"bundle": "small", "run": 6, "prompts": ["a", "b"], "ways": {"greedy": cells}})
    assert lines[0].count("a run of 6 comes twice") == 2
    assert lines[-1] == "| greedy | 1 of 2 | 50% | 2 of 2 | 100% |"
    assert len({line.count("|") for line in lines}) == 1


def test_the_table_of_texts_has_a_line_for_each_prompt() -> None:
    lines = texts({"bundle": "small", "prompts": ["My dear"], "texts": [" sir,\n\nI thank you"]})
    assert lines[-1] == "| My dear | sir, I thank you |"
