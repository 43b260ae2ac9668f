"""TextStream: for any bytes, any stop strings and any cut into pieces, the text is that of a plain decode."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neort.errors import ConfigError
from neort.tokenizer import TextStream

if TYPE_CHECKING:
    from _typeshed import TraceFunction


def first_stop(text: str, stop_strings: Sequence[str]) -> tuple[str, str | None]:
    """The rule of TextStream in its plainest form: the text before the first stop string, and that string."""
    for end in range(len(text) + 1):
        complete = [stop for stop in stop_strings if text[:end].endswith(stop)]
        if complete:
            matched = max(complete, key=len)
            return text[: end - len(matched)], matched
    return text, None


def run(pieces: Sequence[bytes], stop_strings: Sequence[str] = ()) -> tuple[list[str], str | None]:
    stream = TextStream(stop_strings)
    texts = [stream.push(piece) for piece in pieces]
    return [*texts, stream.finish()], stream.matched


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    ends = sorted(place % (len(data) + 1) for place in places)
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


# Few letters, so that stop strings overlap each other and the text; bytes of characters, whole and broken.
fragments = st.sampled_from([b"a", b"b", b"ab", b"aab", "é".encode(), "日".encode(), "👩\u200d🔬".encode()])
any_bytes = st.one_of(
    st.binary(max_size=40), st.lists(st.one_of(fragments, st.binary(max_size=2)), max_size=30).map(b"".join)
)
stop_string = st.text(alphabet="abé日\ufffd", min_size=1, max_size=5)
places = st.lists(st.integers(0, 10_000), max_size=12)


@given(any_bytes, places)
def test_joined_pieces_equal_a_plain_decode(data: bytes, places: list[int]) -> None:
    texts, matched = run(cut(data, places))
    assert "".join(texts) == data.decode("utf-8", "replace")
    assert matched is None


@given(any_bytes, st.lists(stop_string, max_size=4), places)
def test_text_ends_before_the_first_complete_stop_string(
    data: bytes, stop_strings: list[str], places: list[int]
) -> None:
    texts, matched = run(cut(data, places), stop_strings)
    assert ("".join(texts), matched) == first_stop(data.decode("utf-8", "replace"), stop_strings)


@given(any_bytes, st.lists(stop_string, max_size=4), places)
def test_result_does_not_depend_on_the_cut(data: bytes, stop_strings: list[str], places: list[int]) -> None:
    whole, by_bytes = run([data], stop_strings), run([bytes([byte]) for byte in data], stop_strings)
    pieces, matched = run(cut(data, places), stop_strings)
    assert ("".join(whole[0]), whole[1]) == ("".join(by_bytes[0]), by_bytes[1]) == ("".join(pieces), matched)


mixed = st.lists(
    st.one_of(
        st.binary(max_size=2).map(lambda data: (data, False)),
        st.sampled_from([(b"a", False), (b"b", False), ("é".encode(), False)]),
        st.sampled_from(["a", "<b>", "é"]).map(lambda text: (text.encode(), True)),
    ),
    max_size=25,
)


def first_stop_among_hidden(pushed: Sequence[tuple[bytes, bool]], stops: Sequence[str]) -> tuple[str, str | None]:
    """The rule in its plainest form: all characters in the order in which they are complete, the hidden ones marked."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    characters: list[tuple[str, bool]] = []
    for data, hidden in pushed:
        characters += [(each, hidden) for each in (data.decode() if hidden else decoder.decode(data))]
    characters += [(each, False) for each in decoder.decode(b"", final=True)]
    text, matched = first_stop("".join(each for each, _ in characters), stops)
    return "".join(each for each, hidden in characters[: len(text)] if not hidden), matched


@given(mixed, st.lists(st.text("abé<>", min_size=1, max_size=5), max_size=4))
def test_hidden_text_completes_stop_strings_and_is_no_part_of_the_result(
    pushed: list[tuple[bytes, bool]], stops: list[str]
) -> None:
    stream = TextStream(stops)
    texts = [stream.push_hidden(data.decode()) if hidden else stream.push(data) for data, hidden in pushed]
    assert ("".join([*texts, stream.finish()]), stream.matched) == first_stop_among_hidden(pushed, stops)


def test_a_stop_string_may_straddle_hidden_text() -> None:
    stream = TextStream(["b<x>c"])
    assert [stream.push(b"ab"), stream.push_hidden("<x>"), stream.push(b"cd"), stream.finish()] == ["a", "", "", ""]
    assert stream.matched == "b<x>c"


def test_text_that_hidden_text_made_wait_is_given_out_when_no_stop_string_follows() -> None:
    stream = TextStream(["b<x>c"])
    assert [stream.push(b"ab"), stream.push_hidden("<x>"), stream.push(b"b"), stream.finish()] == ["a", "", "b", "b"]


def test_hidden_text_breaks_no_character_in_two() -> None:
    stream = TextStream()
    assert [stream.push(b"\xc3"), stream.push_hidden("<x>"), stream.push(b"\xa9")] == ["", "", "é"]


@given(st.text(alphabet="ab", max_size=30), st.lists(st.text("ab", min_size=1, max_size=5), min_size=1))
def test_no_more_is_held_back_than_the_longest_start_of_a_stop_string(text: str, stops: list[str]) -> None:
    stream = TextStream(stops)
    given_out = ""
    for end, character in enumerate(text, start=1):
        given_out += stream.push(character.encode())
        if stream.stopped:
            break
        held = text[len(given_out) : end]
        starts = [n for stop in stops for n in range(len(stop)) if text[:end].endswith(stop[:n])]
        assert len(held) == max(starts)


@given(any_bytes, st.lists(stop_string, min_size=1, max_size=4))
def test_stopped_is_true_at_the_byte_that_completes_the_stop_string(data: bytes, stops: list[str]) -> None:
    stream = TextStream(stops)
    for end in range(1, len(data) + 1):
        stream.push(data[end - 1 : end])
        certain = codecs.getincrementaldecoder("utf-8")("replace").decode(data[:end])
        assert stream.stopped == any(stop in certain for stop in stops)


def test_nothing_comes_after_a_stop() -> None:
    stream = TextStream(["\n\n"])
    assert stream.push(b"one\n") == "one"
    assert not stream.stopped
    assert stream.push(b"\ntwo\n\nthree") == ""
    assert (stream.stopped, stream.matched) == (True, "\n\n")
    assert (stream.push(b"four"), stream.finish()) == ("", "")


def test_the_stop_string_that_is_complete_first_wins() -> None:
    assert run([b"xabcd"], ["abcd", "bc"]) == (["xa", ""], "bc")
    assert run([b"xabc"], ["abc", "ab"]) == (["x", ""], "ab")


def test_the_longest_of_the_stop_strings_complete_at_one_character_wins() -> None:
    assert run([b"xabc"], ["c", "abc", "bc"]) == (["x", ""], "abc")


def test_half_a_character_is_never_returned() -> None:
    stream = TextStream()
    assert [stream.push(bytes([byte])) for byte in "👍".encode()] == ["", "", "", "👍"]


def test_an_incomplete_character_at_the_end_becomes_one_replacement_character() -> None:
    assert run(["👍".encode()[:3]]) == (["", "\ufffd"], None)


def test_a_stop_string_of_replacement_characters_is_found_at_the_end_too() -> None:
    assert run([b"a\xe2\x82"], ["a\ufffd"]) == (["", ""], "a\ufffd")


def test_the_start_of_a_stop_string_is_released_at_the_end() -> None:
    assert run([b"a User", b":"], ["User:\n"]) == (["a ", "", "User:"], None)


def lines_executed(function: Callable[[], object]) -> int:
    """How many lines of Python a call takes."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> TraceFunction:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("length", [5, 50, 500])
def test_a_character_costs_the_same_however_long_the_stop_string(length: int) -> None:
    """A text that keeps almost completing the stop string; the plain way would look at all of it again each time."""
    stream = TextStream(["a" * length + "b"])
    pieces = [b"aa"] * 1_000
    assert lines_executed(lambda: [stream.push(piece) for piece in pieces]) < 20 * 2 * len(pieces)
    assert stream.finish() == "a" * length


def test_streams_share_what_is_made_of_the_same_stop_strings() -> None:
    """A request of many choices has it once, however long its stop strings are."""
    stops = ["a" * 20_000]
    first = TextStream(stops)
    assert lines_executed(lambda: [TextStream(stops) for _ in range(100)]) < 100 * 40
    assert first.push(b"a" * 10) == ""


def test_a_single_str_is_refused_as_stop_strings() -> None:
    with pytest.raises(TypeError, match="list of str, not 'END'"):
        TextStream("END")


def test_stop_strings_that_are_not_str_are_refused() -> None:
    with pytest.raises(TypeError, match="list of str"):
        TextStream([b"END"])  # type: ignore[list-item]


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(ConfigError, match="empty"):
        TextStream(["x", ""])


def test_push_after_finish_is_refused() -> None:
    stream = TextStream()
    stream.finish()
    with pytest.raises(ValueError, match="new TextStream"):
        stream.push(b"a")
    with pytest.raises(ValueError, match="new TextStream"):
        stream.push_hidden("a")
