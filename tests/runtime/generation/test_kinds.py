"""Options of several parts: lists of token ids, biases, a start with a factor."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

import pytest

from neort.cli.arguments import add_generation_options
from neort.errors import ArgumentTypeError, ConfigError
from neort.generation import OPTIONS, GenerationConfig

VALUES: dict[str, list[tuple[Any, Any]]] = {
    "logit_bias": [
        ({3: 1}, ((3, 1.0),)),
        ({"3": -1.5, "4": 2}, ((3, -1.5), (4, 2.0))),
        ([[3, 1]], ((3, 1.0),)),
    ],
    "sequence_bias": [({(1, 2): 1.0}, (((1, 2), 1.0),)), ([[[1, 2], 1], [[3], -1]], (((1, 2), 1.0), ((3,), -1.0)))],
    "bad_words_ids": [([[1], [2, 3]], ((1,), (2, 3)))],
    "suppress_tokens": [([1, 2], (1, 2))],
    "begin_suppress_tokens": [((1,), (1,))],
    "allowed_token_ids": [([5], (5,))],
    "exponential_decay_length_penalty": [([3, 2], (3, 2.0)), ((0, 1.5), (0, 1.5))],
}
CASES = [(name, given, stored) for name, cases in VALUES.items() for given, stored in cases]


@pytest.mark.parametrize(("name", "given", "stored"), CASES)
def test_a_value_is_stored_as_tuples_and_comes_back_from_json(name: str, given: Any, stored: Any) -> None:
    config = GenerationConfig(**{name: given})
    assert getattr(config, name) == stored
    assert hash(config) == hash(config.replace())
    assert GenerationConfig.from_hf(json.loads(json.dumps(dataclasses.asdict(config)))) == config


@pytest.mark.parametrize("name", VALUES)
def test_a_flag_takes_what_json_has(name: str) -> None:
    parser = argparse.ArgumentParser()
    add_generation_options(parser)
    given, stored = VALUES[name][-1]
    listed = name in ("suppress_tokens", "begin_suppress_tokens", "allowed_token_ids")
    texts = [str(token) for token in given] if listed else [json.dumps(given)]
    arguments = [part for text in texts for part in (OPTIONS[name].flag, text)]
    options = vars(parser.parse_args(arguments))
    assert getattr(GenerationConfig(**options), name) == stored


def test_a_flag_whose_json_is_none_is_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_generation_options(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--logit-bias", "{3: 1}"])
    assert "argument --logit-bias: '{3: 1}' is no JSON" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("logit_bias", {}, ConfigError, "logit_bias={} is empty: use None"),
        ("logit_bias", {-1: 1.0}, ConfigError, "logit_bias=-1 must be at least 0"),
        ("logit_bias", {"x": 1.0}, ArgumentTypeError, "logit_bias='x' must be an integer"),
        ("logit_bias", {1: float("-inf")}, ConfigError, "use bad_words_ids or suppress_tokens to rule tokens out"),
        ("logit_bias", {1: "2"}, ArgumentTypeError, "logit_bias='2' must be a number"),
        ("logit_bias", [1], ArgumentTypeError, "must be like"),
        ("logit_bias", 5, ArgumentTypeError, 'logit_bias=5 must be like {"11": -2.0}, and is int'),
        ("sequence_bias", [[[1, 2]]], ConfigError, "which is no pair: use the form"),
        ("sequence_bias", {(): 1.0}, ConfigError, "is empty"),
        ("bad_words_ids", [1], ArgumentTypeError, "bad_words_ids=1 must be like"),
        ("bad_words_ids", [[]], ConfigError, "is empty"),
        ("bad_words_ids", "ab", ArgumentTypeError, "bad_words_ids='ab' must be like"),
        ("suppress_tokens", [1.5], ArgumentTypeError, "suppress_tokens=1.5 must be an integer"),
        ("exponential_decay_length_penalty", [1, 2, 3], ConfigError, "no pair"),
        ("exponential_decay_length_penalty", [1, 0.0], ConfigError, "must lie between 1e-06 and"),
        ("presence_penalty", 3, ConfigError, "must lie between -2 and 2"),
        ("dry_sequence_breakers", [""], ConfigError, "holds an empty string, which is in every text"),
        ("max_length", 0, ConfigError, "must be at least 1: use max_new_tokens"),
        ("max_time", -1, ConfigError, "use None to set no limit of time"),
    ],
)
def test_a_value_that_fits_not_is_refused_with_a_remedy(
    name: str, value: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as refused:
        GenerationConfig(**{name: value})
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    {
        "min_p": 0.1,
        "top_h": 0.5,
        "typical_p": 0.9,
        "epsilon_cutoff": 0.1,
        "eta_cutoff": 0.1,
        "top_n_sigma": 1.0,
        "xtc_probability": 0.5,
        "xtc_threshold": 0.2,
    }.items(),
)
def test_a_filter_is_refused_without_sampling(name: str, value: float) -> None:
    options: dict[str, Any] = {name: value}
    assert getattr(GenerationConfig(do_sample=True, **options), name) == value
    with pytest.raises(ConfigError, match=f"^{name}={value} has no effect with do_sample=False"):
        GenerationConfig(**options)


def test_what_is_forced_must_not_be_suppressed() -> None:
    with pytest.raises(ConfigError, match="forced_bos_token_id=5 is in suppress_tokens as well"):
        GenerationConfig(forced_bos_token_id=5, suppress_tokens=[4, 5])
    assert GenerationConfig(forced_eos_token_id=[5, 6], suppress_tokens=[5]).forced_eos_token_ids == (5, 6)
    with pytest.warns(UserWarning, match="forced_bos_token_id=5 cannot be honoured"):
        GenerationConfig.from_hf({"forced_bos_token_id": 5, "suppress_tokens": [5]})


def test_from_hf_takes_lists_with_whole_numbers_written_as_floats_and_empty_ones_as_none() -> None:
    file = {"bad_words_ids": [[1.0, 2]], "suppress_tokens": [], "sequence_bias": [], "logit_bias": {}}
    assert GenerationConfig.from_hf(file) == GenerationConfig(bad_words_ids=[[1, 2]])
    with pytest.warns(UserWarning, match=r"bad_words_ids=\[\['a'\]\] cannot be honoured"):
        GenerationConfig.from_hf({"bad_words_ids": [["a"]]})
