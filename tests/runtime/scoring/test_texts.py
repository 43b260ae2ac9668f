"""What `Model.score`, `Model.choose` and `Model.perplexity` take, refuse and return."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neort
from neort import ArgumentTypeError, ConfigError, PromptError
from neort.bundle import Bundle
from neort.scoring import Pair, Perplexity, Score, encode_pair, prefix_token

PREFIX = 0  # <|endoftext|> of the bundled model


def pair_of(model: neort.Model, context: str, text: str) -> tuple[str, str]:
    """What a context and a text are cut into, as text."""
    pair = encode_pair(model.tokenizer, context, text, PREFIX)
    context, text = (
        model.tokenizer.decode(ids.tolist(), skip_special_tokens=False) for ids in (pair.context, pair.continuation)
    )
    return context, text


@pytest.mark.parametrize(
    ("context", "text", "cut"),
    [
        ("Once upon", " a time", ("Once upon", " a time")),
        ("Once upon ", "a time", ("Once upon", " a time")),
        ("Once upon \n", "a time", ("Once upon", " \na time")),
        ("", "Once", ("<|endoftext|>", "Once")),
        ("  ", "Once", ("<|endoftext|>", "  Once")),
        ("", "<|endoftext|>Once", ("<|endoftext|>", "Once")),
    ],
)
def test_white_space_at_a_contexts_end_belongs_to_the_text(
    model: neort.Model, context: str, text: str, cut: tuple[str, str]
) -> None:
    assert pair_of(model, context, text) == cut


def test_pairs_are_cut_as_lm_eval_cuts_them(model: neort.Model) -> None:
    api = pytest.importorskip("lm_eval.api.model")

    class Cutter(api.TemplateLM):  # type: ignore[misc, name-defined]
        """Encodes with neort's tokenizer, and returns what lm-eval would score."""

        eot_token_id = model.scorer().prefix

        def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: object) -> list[int]:
            return model.tokenizer.encode(string, add_special_tokens=False)

        def _loglikelihood_tokens(self, requests: object, **_: object) -> object:
            return requests

        def loglikelihood_rolling(self, requests: object, disable_tqdm: bool = False) -> object:
            raise NotImplementedError

        def generate_until(self, requests: object, disable_tqdm: bool = False) -> object:
            raise NotImplementedError

    instance = pytest.importorskip("lm_eval.api.instance").Instance
    pairs = [("a b  ", "c"), ("", "a"), ("", "<|endoftext|>a"), ("a\n", " b"), ("<|endoftext|>", "b"), ("a", "日")]
    requests = [instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]
    for (context, text), (_, before, after) in zip(pairs, Cutter().loglikelihood(requests), strict=True):
        pair = model.scorer().pair(text, context, "error")
        assert (pair.context.tolist(), pair.continuation.tolist()) == (before, after)


def test_a_text_that_its_context_swallows_is_refused(model: neort.Model) -> None:
    with pytest.raises(PromptError, match="the text '' has no token of its own"):
        model.score("", "Once upon a time")
    with pytest.raises(PromptError, match="text 1 of the list: the text '' has no token"):
        model.score(["a", ""], "Once")


def test_a_text_that_does_not_fit_is_refused_or_loses_the_oldest_context(model: neort.Model) -> None:
    positions = model.spec.max_position_embeddings
    context = " king" * positions
    with pytest.raises(PromptError, match=rf"the model has {positions}: shorten the context, or set overflow to"):
        model.score(" was old", context)
    score = model.score(" was old", context, overflow="truncate_left")
    count = len(score.token_ids)
    kept = model.tokenizer.encode(context)[count - positions - 1 :]
    ids = [*kept, *score.token_ids]
    logits = model.logits(ids[:-1])[-count:].astype(np.float64)
    expected = logits[np.arange(count), ids[-count:]] - np.log(np.exp(logits).sum(axis=-1))
    np.testing.assert_allclose(score.logprobs, expected, rtol=1e-6)
    with pytest.raises(PromptError, match="shorten the text, or take its perplexity"):
        model.score(context + " king", " a", overflow="truncate_left")


def test_as_many_tokens_as_positions_fit_after_one() -> None:
    pair = Pair(np.arange(2), np.arange(3))
    assert pair.fitted(4, truncate=False) is pair
    assert Pair(np.arange(4), np.arange(3)).fitted(4, truncate=True).context.tolist() == [2, 3]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda model: model.score(3), ArgumentTypeError, "texts are a list of str, not int"),
        (lambda model: model.score("a", 3), ArgumentTypeError, "context is a str, not int"),
        (lambda model: model.score(["a", 3]), ArgumentTypeError, "each of the texts is a str, not int"),
        (lambda model: model.score(["a"], ["b", "c"]), ArgumentTypeError, "there are 2 contexts for 1 texts"),
        (lambda model: model.score([]), PromptError, "the list of texts is empty"),
        (lambda model: model.score("a", overflow="stop"), ConfigError, "overflow is 'stop'; it must be one of error"),
        (lambda model: model.choose("a", []), PromptError, "the list of options is empty"),
        (lambda model: model.choose("a", "bc"), ArgumentTypeError, "options are a list of str, not str"),
        (lambda model: model.choose("a", ["b"], normalize="words"), ConfigError, "normalize is 'words'"),
        (lambda model: model.perplexity(""), PromptError, "the text is empty"),
        (lambda model: model.perplexity(["a", ""]), PromptError, "text 1 of the list is empty"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    model: neort.Model, call: Callable[[neort.Model], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call(model)


def test_options_are_normalized_by_their_length_without_the_space_before_them(model: neort.Model) -> None:
    options = [" héron", " a dog"]
    plain = model.choose("I saw", options)
    assert plain.values == tuple(score.log_likelihood for score in plain.scores)
    by = {name: model.choose("I saw", options, normalize=name).values for name in ("characters", "bytes", "tokens")}
    sizes = {"characters": (5, 5), "bytes": (6, 5), "tokens": tuple(len(score.token_ids) for score in plain.scores)}
    for name, values in by.items():
        assert values == tuple(value / size for value, size in zip(plain.values, sizes[name], strict=True))


def test_perplexity_has_lm_evals_definitions() -> None:
    """Words are counted over the whole document: an empty piece at its end counts."""
    perplexity = Perplexity.of("The köng  was\nold. ", [-1.0, -2.0, -3.0])
    assert (perplexity.tokens, perplexity.words, perplexity.bytes) == (3, 5, 20)
    assert perplexity.token == float(perplexity) == math.exp(6 / 3)
    assert perplexity.word == math.exp(6 / 5)
    assert perplexity.byte == math.exp(6 / 20)
    assert perplexity.bits_per_byte == pytest.approx(6 / 20 / math.log(2))
    assert Perplexity.total([perplexity, perplexity]) == Perplexity(-12.0, 6, 10, 40)
    assert Perplexity(-1e6, 1, 1, 1).token == math.inf
    assert math.isnan(Perplexity.total([]).token)


def test_a_score_adds_up_its_tokens() -> None:
    assert Score((1, 2), (-0.5, -1.25), True).log_likelihood == -1.75


@pytest.mark.parametrize(
    ("settings", "config", "expected"),
    [
        ({"bos_token": "<|endoftext|>"}, {"bos_token_id": 7}, PREFIX),
        ({"bos_token": {"content": "<|endoftext|>"}}, {"bos_token_id": 7}, PREFIX),
        ({"bos_token": "<none>", "eos_token": "<|endoftext|>"}, {"bos_token_id": 7}, PREFIX),
        ({}, {"bos_token_id": None, "eos_token_id": 9}, 9),
    ],
)
def test_the_token_before_a_text_is_named_by_the_checkpoints_files(
    bundle_copy: Path,
    replace_file: Callable[[str, bytes], None],
    model: neort.Model,
    settings: dict[str, Any],
    config: dict[str, Any],
    expected: int,
) -> None:
    replace_file("tokenizer_config.json", json.dumps(settings).encode())
    replace_file("config.json", json.dumps(config).encode())
    assert prefix_token(Bundle(bundle_copy), model.tokenizer) == expected


def test_without_a_token_before_texts_a_context_is_asked_for(
    bundle_copy: Path, replace_file: Callable[[str, bytes], None], model: neort.Model
) -> None:
    replace_file("tokenizer_config.json", b"{}")
    replace_file("config.json", b"{}")
    with pytest.raises(ConfigError, match="names no token that begins or ends a text, so a text needs a context"):
        prefix_token(Bundle(bundle_copy), model.tokenizer)
