"""What a file's bytes become: prompts, what is kept of them, and errors that stop nothing."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from neort.batches import Record, format_of_file, read_records
from neort.batches import records as room


def read(content: bytes, kind: Any = "jsonl", key: str = "prompt") -> list[Record]:
    return list(read_records(io.BytesIO(content), kind, key))


@pytest.mark.parametrize(
    ("name", "kind"), [("a.jsonl", "jsonl"), ("A.NDJSON", "jsonl"), ("a.txt", "text"), ("-", "text"), ("a", "text")]
)
def test_a_name_stands_for_a_format(name: str, kind: str) -> None:
    assert format_of_file(name) == kind


def test_json_objects_keep_their_members_and_blank_lines_are_none() -> None:
    first, second = read(b'{"id": 7, "prompt": "The"}\n\n  \n{"prompt": [1, 2]}')
    assert (first.index, first.prompt, first.kept, first.error) == (0, "The", {"id": 7, "prompt": "The"}, "")
    assert (second.index, second.prompt) == (1, [1, 2])


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"{", "no JSON"),
        (b'{"prompt": NaN}', "NaN"),
        (b"[" * 100_000, "no JSON"),
        (b"[1]", "no JSON object but [1]"),
        (b'{"text": "x"}', "'prompt' is missing"),
        (b'{"prompt": 5}', "'prompt' is 5"),
        (b'{"prompt": "\xff"}', "0xff"),
    ],
)
def test_a_bad_record_has_an_error_and_the_next_one_is_read(line: bytes, told: str) -> None:
    bad, good = read(line + b'\n{"prompt": "The"}\n')
    assert told in bad.error
    assert (good.index, good.prompt, good.error) == (1, "The", "")


def test_a_line_that_is_too_long_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "LONGEST_RECORD", 40)
    long = json.dumps({"prompt": "x" * 500}).encode()
    bad, good = read(long + b'\n{"prompt": "The"}\n')
    assert "more than 40 bytes" in bad.error
    assert (good.prompt, good.end) == ("The", len(long) + 17 + 2)


def test_lines_are_prompts_without_their_end_and_a_text_is_one_prompt() -> None:
    content = b"\xef\xbb\xbfThe\r\n\n Once \n"
    assert [record.prompt for record in read(content, "lines")] == ["The", " Once "]
    assert [record.prompt for record in read(content, "text", "p")] == ["The\r\n\n Once \n"]
    assert read(content, "lines", "p")[0].kept == {"p": "The"}


def test_digests_tell_records_apart() -> None:
    lines = [b'{"prompt": "a"}\n', b'{"prompt": "b"}\n', b'{"prompt": "a", "id": 1}\n']
    assert len({record.digest for line in lines for record in read(line)}) == 3
