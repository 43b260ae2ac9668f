"""The bundled model: the same tokens alone, in a batch, streamed, chunked, sampled and from several threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import neort
from neort import (
    ArgumentTypeError,
    BusyError,
    ConfigError,
    GenerationConfig,
    Model,
    NeortError,
    Piece,
    Prompt,
    PromptError,
)
from neort.arrays import Ids, Logits
from neort.backend import DecoderSession
from neort.generation import MOST_SEQUENCES
from patience import PATIENCE

PROMPTS = [
    "Once upon a time",
    "The",
    "It was a dark and stormy night, and the rain fell in torrents upon the roofs of the old town, while",
    "Ünïcödé: “Où est-il?” 日本語 👩\u200d🔬",
    "<|endoftext|>",
]
NON_ASCII = PROMPTS[3]


@pytest.fixture(scope="module")
def narrow(bundle_path: Path) -> Model:
    """The bundled model with a single slot."""
    return neort.load(bundle_path, num_threads=1, max_batch_size=1)


def joined(pieces: list[Piece]) -> tuple[str, tuple[int, ...]]:
    return "".join(piece.text for piece in pieces), tuple(i for piece in pieces for i in piece.token_ids)


# Alone and together

MODES: list[dict[str, Any]] = [
    {"max_new_tokens": 24},
    {"max_new_tokens": 24, "do_sample": True, "seed": 7},
    {"max_new_tokens": 24, "do_sample": True, "seed": 7, "temperature": 1.5, "top_k": None, "top_p": 0.9},
    {"max_new_tokens": 24, "repetition_penalty": 1.4},
]


@pytest.mark.parametrize("options", MODES, ids=["greedy", "sampled", "nucleus", "penalty"])
def test_a_batch_gives_each_prompt_the_tokens_it_gets_alone(model: Model, options: dict[str, Any]) -> None:
    alone = [model.generate(prompt, **options).token_ids for prompt in PROMPTS]
    assert [out.token_ids for out in model.generate(PROMPTS, **options)] == alone
    assert [out.token_ids for out in model.generate(PROMPTS[::-1], **options)] == alone[::-1]


def test_more_prompts_than_slots_get_the_tokens_they_get_alone(model: Model, bundle_path: Path) -> None:
    small = neort.load(bundle_path, num_threads=1, max_batch_size=2)
    together = small.generate(PROMPTS, max_new_tokens=16)
    assert [out.token_ids for out in together] == [out.token_ids for out in model.generate(PROMPTS, max_new_tokens=16)]


def test_the_number_of_threads_does_not_change_the_tokens(model: Model, narrow: Model) -> None:
    one, two = (m.generate(PROMPTS[2], max_new_tokens=100).token_ids for m in (narrow, model))
    assert one == two
    assert (narrow.num_threads, model.num_threads) == (1, 2)


def test_generating_twice_gives_the_same_tokens(model: Model) -> None:
    first, second = (model.generate(PROMPTS[0], max_new_tokens=32).token_ids for _ in range(2))
    assert first == second


def test_token_ids_give_what_their_text_gives(model: Model) -> None:
    ids = model.tokenizer.encode(PROMPTS[2])
    text = model.generate(PROMPTS[2], max_new_tokens=16)
    prompts: list[Prompt] = [
        ids,
        tuple(ids),
        np.array(ids, np.int64),
        np.array(ids, np.int32),
        np.array(ids, np.uint16),
    ]
    for prompt in prompts:
        assert model.generate(prompt, max_new_tokens=16).token_ids == text.token_ids


def test_text_and_token_ids_may_be_mixed_in_one_list(model: Model) -> None:
    ids = model.tokenizer.encode("The")
    completions = model.generate(["The", ids, np.array(ids)], max_new_tokens=8)
    assert len({out.token_ids for out in completions}) == 1


def test_an_array_of_two_dimensions_becomes_a_list_of_prompts(model: Model) -> None:
    array = np.array([[5, 6], [7, 8]])
    with pytest.raises(TypeError, match=r"shape \[2, 2\] is no prompt; .*list\(array\)"):
        model.generate(array, max_new_tokens=4)
    completions = model.generate(list(array), max_new_tokens=4)
    assert [out.token_ids for out in completions] == [
        model.generate(ids, max_new_tokens=4).token_ids for ids in ([5, 6], [7, 8])
    ]


def test_a_list_in_gives_a_list_out(model: Model) -> None:
    (only,) = model.generate(["The"], max_new_tokens=4)
    assert only.token_ids == model.generate("The", max_new_tokens=4).token_ids


def test_the_text_is_the_decoded_token_ids(model: Model) -> None:
    out = model.generate(NON_ASCII, max_new_tokens=40)
    assert out.text == b"".join(map(model.tokenizer.token_bytes, out.token_ids)).decode("utf-8", "replace")


# Sampling


def test_return_sequences_come_prompt_by_prompt_and_differ(model: Model) -> None:
    options: dict[str, Any] = {"max_new_tokens": 16, "do_sample": True, "seed": 3, "num_return_sequences": 3}
    both = [out.token_ids for out in model.generate(["The", "Once"], **options)]
    assert len(set(both)) == 6
    assert both[:3] == [out.token_ids for out in model.generate("The", **options)]
    assert both[3:] == [out.token_ids for out in model.generate("Once", **options)]


def test_a_list_comes_back_where_several_sequences_are_asked_for_in_the_call(model: Model) -> None:
    options: dict[str, Any] = {"max_new_tokens": 4, "do_sample": True, "seed": 3}
    assert [out.token_ids for out in model.generate("The", num_return_sequences=1, **options)] == [
        model.generate("The", **options).token_ids
    ]
    several = GenerationConfig(num_return_sequences=2, **options)
    assert len(model.generate(["The"], several)) == 2
    with pytest.raises(ConfigError, match="num_return_sequences is 2; give it in the call itself"):
        model.generate("The", several)


def test_the_first_return_sequence_is_that_of_a_single_one(model: Model) -> None:
    options: dict[str, Any] = {"max_new_tokens": 16, "do_sample": True, "seed": 3}
    several = model.generate("The", num_return_sequences=2, **options)
    assert several[0].token_ids == model.generate("The", **options).token_ids


def test_another_seed_gives_another_text(model: Model) -> None:
    texts = {model.generate("The", max_new_tokens=16, do_sample=True, seed=seed).text for seed in range(4)}
    assert len(texts) == 4


def test_no_seed_gives_another_text_each_time(model: Model) -> None:
    """With 16 tokens of some bits each, two equal texts are a matter of years."""
    options: dict[str, Any] = {"max_new_tokens": 16, "do_sample": True, "top_k": None, "temperature": 2.0}
    assert len({model.generate("The", **options).text for _ in range(3)}) == 3


# Streams


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("options", MODES, ids=["greedy", "sampled", "nucleus", "penalty"])
def test_joined_pieces_are_what_generate_gives(model: Model, prompt: str, options: dict[str, Any]) -> None:
    out = model.generate(prompt, **options)
    pieces = list(model.stream(prompt, **options))
    assert joined(pieces) == (out.text, out.token_ids)
    assert pieces[-1].finish_reason == out.finish_reason


def test_only_the_last_piece_carries_the_finish_reason_and_stats(model: Model) -> None:
    *others, last = model.stream("The", max_new_tokens=12)
    assert others
    assert all(piece.finish_reason is None and piece.stats is None for piece in others)
    assert last.finish_reason == "length"
    assert last.stats is not None
    assert last.stats.new_tokens == 12


def test_pieces_hold_whole_characters(model: Model) -> None:
    """At a high temperature the model writes broken UTF-8: replacement characters there, and nothing but.

    Tokens are nearly uniform then, and 1 in 32 is half a character: 300 hold none with probability 7e-5.
    """
    options: dict[str, Any] = {"max_new_tokens": 300, "do_sample": True, "temperature": 50.0, "top_k": None, "seed": 1}
    pieces = list(model.stream(NON_ASCII, **options))
    text, token_ids = joined(pieces)
    data = b"".join(map(model.tokenizer.token_bytes, token_ids))
    assert any(byte >= 0x80 for byte in data)
    assert text == data.decode("utf-8", "replace")


def test_every_piece_but_the_last_has_text(model: Model) -> None:
    options: dict[str, Any] = {"max_new_tokens": 60, "do_sample": True, "temperature": 5.0, "top_k": None, "seed": 1}
    *others, _ = model.stream(NON_ASCII, **options)
    assert all(piece.text and piece.token_ids for piece in others)


def test_a_piece_is_handed_out_as_soon_as_it_is_certain(model: Model) -> None:
    """A processor that is asked for a token finds all pieces but those of the last token there."""
    ahead: list[int] = []

    def wait_for_pieces(ids: Ids, logits: Logits) -> Logits:
        before = len(ids) - prompt_length - 1
        while len(received) < before:
            assert more.acquire(timeout=PATIENCE)
        ahead.append(before)
        return logits

    prompt_length = len(model.tokenizer.encode("The"))
    received: list[int] = []
    more = threading.Semaphore(0)
    for piece in model.stream("The", max_new_tokens=12, logits_processor=[wait_for_pieces]):
        received += piece.token_ids
        more.release()
    assert len(received) == len(ahead) == 12


def test_a_stop_string_ends_the_text_before_it(model: Model) -> None:
    text = model.generate("Once upon a time", max_new_tokens=40).text
    stop = text[9:21]
    out = model.generate("Once upon a time", max_new_tokens=40, stop_strings=[stop, "never\0"])
    assert (out.text, out.finish_reason) == (text[: text.index(stop)], "stop")
    assert len(out.token_ids) < 40


@pytest.mark.parametrize("ending", ["", "\0"], ids=["complete", "partial"])
def test_streams_hold_back_what_may_be_a_stop_string(model: Model, ending: str) -> None:
    text = model.generate("Once upon a time", max_new_tokens=40).text
    stop = text[9:21] + ending
    out = model.generate("Once upon a time", max_new_tokens=40, stop_strings=stop)
    pieces = list(model.stream("Once upon a time", max_new_tokens=40, stop_strings=stop))
    assert joined(pieces) == (out.text, out.token_ids)
    assert pieces[-1].finish_reason == out.finish_reason == ("length" if ending else "stop")
    assert out.text == (text if ending else text[: text.index(stop)])
    assert len(pieces) > 1


def test_closing_a_stream_frees_its_slot(narrow: Model) -> None:
    stream = narrow.stream("The", max_new_tokens=10**6, overflow="truncate_left")
    next(stream)
    with pytest.raises(BusyError, match="max_batch_size"):
        narrow.logits([1, 2])
    stream.close()
    assert narrow.logits([1, 2]).shape == (2, narrow.spec.vocab_size)


def test_dropping_a_stream_frees_its_slot(narrow: Model) -> None:
    for piece in narrow.stream("The", max_new_tokens=10**6, overflow="truncate_left"):
        assert piece.text
        break
    del piece
    assert narrow.generate("The", max_new_tokens=4).stats.new_tokens == 4
    assert narrow.logits([1, 2]).shape == (2, narrow.spec.vocab_size)


def test_a_stream_that_is_never_read_takes_no_slot(narrow: Model) -> None:
    stream = narrow.stream("The", max_new_tokens=100)
    assert narrow.logits([1, 2]).shape == (2, narrow.spec.vocab_size)
    stream.close()


def test_streams_read_in_turns_give_what_each_gives_alone(model: Model) -> None:
    prompts = ["Once upon a time", NON_ASCII]
    expected = [model.generate(prompt, max_new_tokens=24) for prompt in prompts]
    streams = [model.stream(prompt, max_new_tokens=24) for prompt in prompts]
    pieces: list[list[Piece]] = [[], []]
    open_ones = {0, 1}
    while open_ones:
        for i in sorted(open_ones):
            piece = next(streams[i], None)
            if piece is None:
                open_ones.discard(i)
            else:
                pieces[i].append(piece)
    assert [joined(p) for p in pieces] == [(out.text, out.token_ids) for out in expected]


def test_a_waiting_stream_starts_when_the_other_one_ends(narrow: Model) -> None:
    first, second = (narrow.stream(prompt, max_new_tokens=6) for prompt in ("The", "Once"))
    next(first)
    assert joined(list(second))[1] == narrow.generate("Once", max_new_tokens=6).token_ids
    first.close()


def test_a_stream_refuses_at_the_call_not_at_its_first_piece(model: Model) -> None:
    with pytest.raises(ValueError, match="one sequence here, and num_return_sequences is 2"):
        model.stream("The", do_sample=True, num_return_sequences=2)  # type: ignore[call-arg]
    with pytest.raises(PromptError, match="positions"):
        model.stream("The", max_new_tokens=10_000)
    with pytest.raises(TypeError, match="max_new_tokens"):
        model.stream("The", max_new_token=3)  # type: ignore[call-arg]


# Threads


def run_threads(*targets: Callable[[], None]) -> None:
    threads = [threading.Thread(target=target, daemon=True) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=PATIENCE)
    assert not any(thread.is_alive() for thread in threads)


def test_threads_that_share_a_model_get_what_each_gets_alone(model: Model) -> None:
    expected = [model.generate(prompt, max_new_tokens=32) for prompt in PROMPTS]
    results: dict[str, tuple[str, tuple[int, ...]]] = {}

    def generate(prompt: str) -> None:
        out = model.generate(prompt, max_new_tokens=32)
        results[prompt] = out.text, out.token_ids

    def stream(prompt: str) -> None:
        results[prompt] = joined(list(model.stream(prompt, max_new_tokens=32)))

    work = [lambda p=p, f=f: f(p) for p, f in zip(PROMPTS, [generate, stream, generate, stream, stream], strict=True)]
    run_threads(*work)
    assert results == {p: (out.text, out.token_ids) for p, out in zip(PROMPTS, expected, strict=True)}


def test_a_short_request_beside_a_long_one_shares_its_steps(model: Model) -> None:
    under_way = threading.Event()
    progress: list[int] = []  # of the long one, whenever the short one gets a token

    def wait_for_the_short_one(ids: Ids, logits: Logits) -> Logits:
        if len(ids) == 5:
            under_way.set()
            deadline = time.monotonic() + PATIENCE
            while not model._engine.waiting and time.monotonic() < deadline:
                time.sleep(0.001)
        return logits

    def note_progress(ids: Ids, logits: Logits) -> Logits:
        progress.append(model._engine.running[0].new_tokens)
        return logits

    def generate_a_long_text() -> None:
        model.generate([8, 9], max_new_tokens=450, logits_processor=[wait_for_the_short_one])

    def generate_a_short_text() -> None:
        assert under_way.wait(timeout=PATIENCE)
        model.generate([5, 6, 7], max_new_tokens=4, logits_processor=[note_progress])

    run_threads(generate_a_long_text, generate_a_short_text)
    assert len(progress) == 4
    assert progress[-1] - progress[0] <= 4


# Logits


def test_logits_are_float32_of_every_position(model: Model) -> None:
    logits = model.logits([5, 6, 7])
    assert logits.shape == (3, model.spec.vocab_size)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()


def test_logits_of_a_prefix_do_not_depend_on_what_follows(model: Model) -> None:
    ids = model.tokenizer.encode(PROMPTS[2])
    np.testing.assert_allclose(model.logits(ids)[:9], model.logits(ids[:9]), rtol=0, atol=1e-3)


def test_greedy_decoding_past_twice_the_window_takes_the_argmax_of_the_logits(model: Model) -> None:
    """Attention adds up in another order in prefill and in decoding, so that once in a while an activation on the
    edge of rounding moves to the next int8 step: a token of nearly the same logit may then be the largest."""
    prompt = model.tokenizer.encode(PROMPTS[2])
    out = model.generate(prompt, max_new_tokens=300)
    assert len(prompt) + len(out.token_ids) > 2 * model.spec.window_size
    logits = model.logits([*prompt, *out.token_ids])[len(prompt) - 1 : -1]
    lost = logits.max(axis=-1) - logits[np.arange(300), out.token_ids]
    assert np.count_nonzero(lost) <= 6
    assert lost.max() < 0.1


@pytest.mark.usefixtures("exact_products")
def test_decoding_token_by_token_gives_the_logits_of_scoring_at_once(model: Model) -> None:
    """Real text across the edge of the local window, its double, and the prefill's chunks."""
    ids = np.array(model.bundle.read_json("verification.json")["golden"]["token_ids"], np.int64)
    window, session = model.spec.window_size, DecoderSession(model.bundle, num_threads=2, max_batch_size=1)
    assert len(ids) > 2 * window + 1
    whole = model.logits(ids)
    session.reserve(1, [])
    session.prefill(0, ids[:1], 0, 0)
    rows = [session.decode(ids[i : i + 1], np.array([i], np.int32))[0].copy() for i in range(1, len(ids))]
    difference = np.abs(np.stack(rows) - whole[1:]).max(axis=-1)
    assert difference.max() < 0.25  # one activation on the edge of rounding may move to the next int8 step
    assert np.median(difference) < 1e-4


@pytest.mark.parametrize("bad", [-1, 4096, 2**40])
def test_token_ids_outside_the_vocabulary_are_refused(model: Model, bad: int) -> None:
    assert model.spec.vocab_size == 4096
    with pytest.raises(PromptError, match=f"token id {bad} is outside the vocabulary of 4096 tokens"):
        model.logits([1, bad])
    with pytest.raises(PromptError, match=f"token id {bad} is outside the vocabulary of 4096 tokens"):
        model.generate([1, bad], max_new_tokens=1)


@pytest.mark.parametrize("huge", [2**63, 2**64 - 1, 2**64, -(2**70)])
def test_token_ids_beyond_64_bits_are_refused_by_their_value(model: Model, huge: int) -> None:
    with pytest.raises((PromptError, TypeError)) as caught:
        model.logits([1, huge])
    assert not (isinstance(caught.value, PromptError) and str(huge) not in str(caught.value))


def test_logits_of_more_tokens_than_positions_are_refused(model: Model) -> None:
    with pytest.raises(PromptError, match="513 tokens are more than the model's 512 positions"):
        model.logits([1] * 513)
    assert model.logits([1] * 512).shape == (512, 4096)


# Options and prompts that are refused


@pytest.mark.parametrize("empty", ["", [], [[]], np.zeros(0, np.int64), [""]])
def test_an_empty_prompt_is_refused(model: Model, empty: Any) -> None:
    with pytest.raises(PromptError, match="empty"):
        model.generate(empty)


WRONG_TYPES = {
    "float ids": [1, 2.5],
    "only float ids": [1.5],
    "bool ids": [True, False],
    "bytes": b"abc",
    "bytearray": bytearray(b"abc"),
    "list of bytes": [b"abc"],
    "none": None,
    "list of none": [None],
    "number": 5,
    "text and number": ["a", 1],
    "number and text": [1, "a"],
    "ids of ids": [[1, [2]]],
    "float array": np.array([1.0, 2.0]),
    "bool array": np.array([True]),
    "array of text": np.array(["a"]),
    "scalar array": np.array(5),
    "mapping": {"a": 1},
    "iterator": iter(["a"]),
}


@pytest.mark.parametrize("wrong", WRONG_TYPES.values(), ids=WRONG_TYPES)
def test_a_prompt_of_another_type_is_refused_in_words_about_prompts(model: Model, wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"token ids|prompt"):
        model.generate(wrong, max_new_tokens=1)


@pytest.mark.parametrize("wrong", [None, 1.5, "text", ["a"], [[1, 2]], [1.5], [True]])
def test_logits_refuses_what_is_no_sequence_of_ids(model: Model, wrong: Any) -> None:
    with pytest.raises(TypeError, match="token ids"):
        model.logits(wrong)


def test_one_bad_prompt_refuses_the_list_before_anything_runs(narrow: Model) -> None:
    with pytest.raises(PromptError, match="positions"):
        narrow.generate(["The", [5] * 500], max_new_tokens=100)
    assert narrow.logits([1]).shape == (1, 4096)  # no slot is taken


def test_an_unknown_option_names_the_closest_one(model: Model) -> None:
    with pytest.raises(TypeError, match="unknown generation option 'max_new_token'; did you mean 'max_new_tokens'"):
        model.generate("The", max_new_token=5)  # type: ignore[call-overload]


@pytest.mark.parametrize("config", [{"max_new_tokens": 3}, 5, "greedy"])
def test_a_config_of_another_type_is_refused(model: Model, config: Any) -> None:
    with pytest.raises(TypeError, match=f"neort.GenerationConfig, not {type(config).__name__}"):
        model.generate("The", config)


@pytest.mark.parametrize("name", ["num_threads", "max_batch_size"])
@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (-1, ValueError), ("2", TypeError), (True, TypeError)])
def test_load_refuses_impossible_counts(bundle_path: Path, name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=name):
        neort.load(bundle_path, **{name: value})


# Processors of the caller's own


class Forbidding:
    """Rules out a token, another one each time: a processor with a state."""

    def __init__(self, token_ids: list[int]) -> None:
        self.token_ids = list(token_ids)

    def __call__(self, ids: NDArray[np.int64], logits: NDArray[np.float32]) -> NDArray[np.float32]:
        logits[self.token_ids.pop(0)] = -np.inf
        return logits


def test_an_own_processor_changes_the_text_and_each_sequence_has_its_copy(model: Model) -> None:
    best = greedy(model)[:2]
    forbidden = [*best, 0, 0]
    one = model.generate("The", max_new_tokens=4, logits_processor=[Forbidding(forbidden)])
    assert one.token_ids[0] != best[0]
    used = Forbidding(forbidden)
    both = model.generate(["The", "The"], max_new_tokens=4, logits_processor=[used])
    assert used.token_ids == []
    streamed = joined(list(model.stream("The", max_new_tokens=4, logits_processor=[Forbidding(forbidden)])))
    assert [out.token_ids for out in both] == [one.token_ids] * 2
    assert streamed == (one.text, one.token_ids)


def test_a_processor_that_cannot_be_called_is_refused(model: Model) -> None:
    with pytest.raises(ArgumentTypeError, match=r"logits_processor holds 'top_k'; .*neort.LogitsProcessor"):
        model.generate("The", logits_processor=["top_k"])  # type: ignore[list-item]


@pytest.mark.parametrize("name", ["bundle", "packed_weights", "draft"])
@pytest.mark.parametrize(("value", "error"), [(3, ArgumentTypeError), ("", ConfigError)])
def test_load_refuses_what_is_no_path(bundle_path: Path, name: str, value: Any, error: type[Exception]) -> None:
    options: dict[str, Any] = {"bundle": bundle_path, name: value}
    with pytest.raises(error, match=name):
        neort.load(**options)


@pytest.mark.parametrize("name", ["bundle", "packed_weights", "draft"])
def test_load_refuses_the_home_folder_of_nobody(bundle_path: Path, name: str) -> None:
    options: dict[str, Any] = {"bundle": bundle_path, name: "~no_such_user/folder"}
    with pytest.raises(NeortError, match="names the home folder of nobody"):
        neort.load(**options)


@pytest.mark.parametrize(
    "wrong", [{"max_cache_bytes": 0}, {"prefix_cache_bytes": -1}, {"packed_weights": ""}, {"draft": "/no/such/bundle"}]
)
def test_load_refuses_arguments_before_it_opens_a_graph(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any]
) -> None:
    opened: list[object] = []
    monkeypatch.setattr("neort.loading.DecoderSession", lambda *args, **options: opened.append(args))
    with pytest.raises(NeortError):
        neort.load(bundle_path, **wrong)
    assert opened == []


def test_load_takes_numpys_integers_and_refuses_what_configures_nothing(bundle_path: Path) -> None:
    assert neort.load(bundle_path, num_threads=np.int64(1)).num_threads == 1  # type: ignore[arg-type]
    with pytest.raises(ArgumentTypeError, match="configure_session is a function of the options, not int"):
        neort.load(bundle_path, configure_session=3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("prompts", "error", "says"),
    [
        (["a", 1], ArgumentTypeError, "token ids are a sequence of integers, not int"),
        (["a", ""], PromptError, "the prompt is empty"),
        ([[1], [99999]], PromptError, "token id 99999 is outside the vocabulary"),
        (["a", [1] * 5000], PromptError, "the prompt has 5000 tokens"),
    ],
)
def test_an_error_in_a_list_says_which_prompt_it_is_about(
    model: Model, prompts: Any, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=f"^prompt 1 of the list: {says}"):
        model.generate(prompts)


@pytest.mark.parametrize("negative", ["", [99999], 3])
def test_an_error_in_a_negative_prompt_says_so(model: Model, negative: Any) -> None:
    for call in (model.generate, model.stream):
        with pytest.raises(neort.NeortError, match=r"^negative_prompt: "):
            call("a", negative_prompt=negative, guidance_scale=2.0)


def test_more_beams_than_any_model_decodes_are_refused_at_once(model: Model) -> None:
    with pytest.raises(ConfigError, match=f"num_beams=1000000000000 must be at most {MOST_SEQUENCES}:"):
        model.generate("a", num_beams=10**12)


# Options that take effect


def test_overrides_beat_the_config(model: Model) -> None:
    config = GenerationConfig(max_new_tokens=3)
    assert len(model.generate("The", config).token_ids) == 3
    assert len(model.generate("The", config, max_new_tokens=5).token_ids) == 5
    assert config.max_new_tokens == 3


def greedy(model: Model, count: int = 12) -> tuple[int, ...]:
    return model.generate("The", max_new_tokens=count).token_ids


def with_eos(bundle_path: Path, eos: int) -> Model:
    loaded = neort.load(bundle_path, num_threads=1)
    loaded.generation_config = loaded.generation_config.replace(eos_token_id=eos)
    return loaded


def test_a_config_without_end_of_text_takes_the_bundles(model: Model, bundle_path: Path) -> None:
    assert model.generation_config.eos_token_id == 0
    tokens = greedy(model)
    changed = with_eos(bundle_path, tokens[5])
    out = changed.generate("The", GenerationConfig(max_new_tokens=12))
    assert (out.token_ids, out.finish_reason) == (tokens[: tokens.index(tokens[5]) + 1], "stop")


def test_a_config_with_end_of_text_keeps_its_own(model: Model, bundle_path: Path) -> None:
    tokens = greedy(model)
    changed = with_eos(bundle_path, tokens[0])
    assert changed.generate("The", GenerationConfig(max_new_tokens=12, eos_token_id=4095)).token_ids == tokens


def test_end_of_text_can_be_switched_off(model: Model, bundle_path: Path) -> None:
    tokens = greedy(model)
    assert with_eos(bundle_path, tokens[0]).generate("The", max_new_tokens=12, eos_token_id=None).token_ids == tokens


@pytest.mark.parametrize("option", ["min_new_tokens", "min_length"])
def test_a_minimum_suppresses_end_of_text(model: Model, option: str) -> None:
    eos = greedy(model)[0]
    prompt_tokens = len(model.tokenizer.encode("The"))
    minimum: dict[str, Any] = {option: 6 if option == "min_new_tokens" else prompt_tokens + 6}
    ended = model.generate("The", max_new_tokens=12, eos_token_id=eos)
    assert ended.token_ids == (eos,)
    longer = model.generate("The", max_new_tokens=12, eos_token_id=eos, **minimum)
    assert eos not in longer.token_ids[:6]
    assert len(longer.token_ids) >= 6


def test_the_text_holds_no_end_of_text_token(model: Model) -> None:
    tokens = greedy(model)
    end = next(i for i in range(2, 12) if tokens[i] not in tokens[:i])
    out = model.generate("The", max_new_tokens=12, eos_token_id=tokens[end])
    assert out.token_ids == tokens[: end + 1]
    assert out.text == model.tokenizer.decode(tokens[:end])
    assert joined(list(model.stream("The", max_new_tokens=12, eos_token_id=tokens[end]))) == (out.text, out.token_ids)


@pytest.mark.parametrize("length", [500, 512])
def test_overflow_stop_ends_at_the_end_of_the_context(model: Model, length: int) -> None:
    out = model.generate([5] * length, max_new_tokens=100, overflow="stop", eos_token_id=None)
    assert (len(out.token_ids), out.finish_reason) == (512 - length + 1, "length")


def test_overflow_stop_gives_no_text_after_a_prompt_longer_than_the_context(model: Model) -> None:
    out = model.generate([5] * 513, max_new_tokens=100, overflow="stop")
    assert (out.text, out.token_ids, out.finish_reason) == ("", (), "length")
    (piece,) = model.stream([5] * 513, max_new_tokens=100, overflow="stop")
    assert (piece.text, piece.token_ids, piece.finish_reason) == ("", (), "length")


def test_overflow_truncate_left_equals_the_prompt_of_the_newest_tokens(model: Model) -> None:
    ids = [(7 * i) % 4000 + 1 for i in range(700)]
    long = model.generate(ids, max_new_tokens=20, overflow="truncate_left")
    assert long.token_ids == model.generate(ids[-(512 - 19) :], max_new_tokens=20).token_ids


def test_overflow_truncate_left_writes_past_the_context(model: Model) -> None:
    out = model.generate([5] * 500, max_new_tokens=60, overflow="truncate_left", eos_token_id=None)
    assert (len(out.token_ids), out.finish_reason) == (60, "length")
    assert out.stats.prompt_tokens == 500


# Stats


def test_stats_count_tokens_and_give_positive_rates(model: Model) -> None:
    started = time.perf_counter()
    prompt = "A prompt of this test's own, which no other one has prefilled:"
    out = model.generate(prompt, max_new_tokens=20)
    elapsed = time.perf_counter() - started
    stats = out.stats
    assert (stats.prompt_tokens, stats.new_tokens) == (len(model.tokenizer.encode(prompt)), 20)
    assert 0 < stats.prefill_seconds <= stats.time_to_first_token <= elapsed
    assert 0 < stats.time_to_first_token + stats.decode_seconds <= elapsed
    assert stats.tokens_per_second > 0
    assert stats.prompt_tokens_per_second > 0


def test_time_to_first_token_begins_when_the_stream_is_read(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    stream = model.stream("The", max_new_tokens=4)
    now = 1000.0
    *_, last = stream
    assert last.stats is not None
    assert last.stats.time_to_first_token == 0


def test_repr_names_the_bundle_and_its_format(model: Model) -> None:
    assert repr(model) == "<neort.Model neo-mini: int8, 2 threads>"
