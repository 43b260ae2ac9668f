"""What is asked about onnxruntime's attention: the answers, and what follows from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from neort.backend import DecoderSession, attention, checks, open_attention, split_below
from neort.backend.attention import HYBRID, heads_per_thread, window_difference
from neort.bundle import Bundle, ModelSpec
from neort.errors import UnsupportedError

HEAD_DIM, POSITIONS = 256, 1024  # several blocks of a past wherever the second-level cache has less than 8 MB

Feeds = dict[str, NDArray[Any]]
Cache = dict[str, NDArray[np.float32]]


@pytest.fixture
def spec(bundle_path: Path) -> ModelSpec:
    return replace(Bundle(bundle_path).spec, num_heads=6, head_dim=HEAD_DIM, max_position_embeddings=POSITIONS)


def splitting(taken: int) -> attention.Open:
    """An onnxruntime whose threads take ``taken`` heads each before it splits none."""

    def attention_of(model: bytes, num_threads: int) -> attention.Attend:
        def attend(feeds: Feeds, cache: Cache) -> NDArray[np.float32]:
            lengths = feeds["seqlens_k"]
            split = (lengths == lengths[0]).all() and len(lengths) < taken * num_threads
            return np.full((len(lengths), 1, 4), 1 + split * 1e-7, np.float32)

        return attend

    return attention_of


def failing(model: bytes, num_threads: int) -> attention.Attend:
    raise RuntimeError("no such operator")


@pytest.mark.parametrize("taken", [0, 1, HYBRID])
def test_the_heads_that_a_thread_takes_are_found_by_asking(taken: int) -> None:
    assert heads_per_thread(splitting(taken), 8, 16) == taken


def test_where_attention_cannot_be_computed_the_most_is_assumed() -> None:
    assert heads_per_thread(failing, 8, 16) == HYBRID


@pytest.mark.parametrize("num_threads", [2, 3, 5])
def test_onnxruntime_splits_the_pasts_that_the_answer_foretells(num_threads: int) -> None:
    """One head per sequence. Where a block holds all positions, nothing is split and nothing foretold."""
    taken = heads_per_thread(open_attention, HEAD_DIM, POSITIONS)
    attend = open_attention(attention.SPLIT.read_bytes(), num_threads)
    most = HYBRID * num_threads + 1
    new, cache = attention.question(most, HEAD_DIM, POSITIONS)
    split = [count for count in range(1, most + 1) if attention.splits(attend, count, new, cache)]
    assert split == list(range(1, taken * num_threads))


@pytest.mark.parametrize(
    ("taken", "num_threads", "below"),
    [
        (1, 6, 1),
        (1, 7, 2),
        (1, 13, 3),
        (1, 64, 11),
        (0, 64, 0),
        (4, 1, 0),
        (4, 2, 2),
        (4, 3, 2),
        (4, 4, 3),
        (4, 16, 11),
    ],
)
def test_sequences_are_split_while_the_threads_could_take_more_heads(
    spec: ModelSpec, monkeypatch: pytest.MonkeyPatch, taken: int, num_threads: int, below: int
) -> None:
    """Six heads; on processors of several kinds a thread takes four: two threads split one sequence, as eight would."""
    monkeypatch.setattr(checks, "_heads_per_thread", lambda head_dim, positions: taken)
    assert split_below(num_threads, spec) == below


@pytest.mark.parametrize(("num_threads", "asked"), [(1, 0), (3, 0), (4, 1)])
def test_onnxruntime_is_asked_only_where_threads_could_take_more_than_one_sequence(
    spec: ModelSpec, monkeypatch: pytest.MonkeyPatch, num_threads: int, asked: int
) -> None:
    questions: list[tuple[int, int]] = []

    def ask(head_dim: int, positions: int) -> int:
        questions.append((head_dim, positions))
        return 1

    monkeypatch.setattr(checks, "_heads_per_thread", ask)
    split_below(num_threads, replace(spec, num_heads=12))
    assert questions == [(HEAD_DIM, POSITIONS)] * asked


# The window of local layers


def seeing(window: int, *, scale: float = 1.0) -> attention.Open:
    """An onnxruntime whose local layers see so many positions."""

    def attend(feeds: Feeds, cache: Cache) -> NDArray[np.float32]:
        new = feeds["qkv"].shape[1]
        start = int(feeds["seqlens_k"][0]) + 1 - new
        queries, keys, values = feeds["qkv"].reshape(new, 3, attention.HEADS, attention.HEAD_DIM).swapaxes(0, 1)
        cache["key"][0, :, start : start + new] = keys.swapaxes(0, 1)
        cache["value"][0, :, start : start + new] = values.swapaxes(0, 1)
        rows = []
        for place, query in enumerate(queries, start):
            seen = slice(max(0, place + 1 - window), place + 1)
            weights = np.exp(scale * np.einsum("hd,hsd->hs", query, cache["key"][0, :, seen]))
            weights /= weights.sum(axis=-1, keepdims=True)
            rows.append(np.einsum("hs,hsd->hd", weights, cache["value"][0, :, seen]).reshape(-1))
        return np.stack(rows)[None].astype(np.float32)

    return lambda model, num_threads: attend


def test_attention_over_the_window_differs_by_rounding() -> None:
    assert window_difference(seeing(attention.WINDOW)) < checks.WINDOW_DIFFERENCE / 10


@pytest.mark.parametrize(
    "wrong",
    [seeing(attention.WINDOW + 1), seeing(attention.WINDOW - 1), seeing(99), seeing(attention.WINDOW, scale=0.5)],
)
def test_attention_over_other_positions_or_with_another_scale_is_noticed(wrong: attention.Open) -> None:
    assert window_difference(wrong) > 100 * checks.WINDOW_DIFFERENCE


def test_attention_that_fails_or_is_not_a_number_is_noticed() -> None:
    assert window_difference(failing) == float("inf")
    nothing = np.full((1, 1, 1), np.nan, np.float32)
    assert window_difference(lambda model, num_threads: lambda feeds, cache: nothing) == float("inf")


def test_this_onnxruntime_lets_local_layers_see_their_window() -> None:
    assert window_difference(open_attention) < checks.WINDOW_DIFFERENCE


def test_an_onnxruntime_whose_windows_are_wrong_is_refused(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_window_difference", lambda: 1.8)
    monkeypatch.setattr("onnxruntime.__version__", "1.23.2")
    with pytest.raises(
        UnsupportedError, match=r"onnxruntime 1\.23\.2 .* difference is 2, .* update onnxruntime to 1\.24\.2"
    ):
        DecoderSession(Bundle(bundle_path), num_threads=1)


def test_windows_are_checked_once_in_a_process(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[attention.Open] = []

    def ask(open_attention: attention.Open) -> float:
        asked.append(open_attention)
        return 0.0

    monkeypatch.setattr(checks, "window_difference", ask)
    checks._window_difference.cache_clear()
    for _ in range(2):
        DecoderSession(Bundle(bundle_path), num_threads=1)
    checks._window_difference.cache_clear()
    assert len(asked) == 1
