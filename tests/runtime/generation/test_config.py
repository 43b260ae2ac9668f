from __future__ import annotations

import dataclasses
import json
import math
import pickle
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neort.errors import ArgumentTypeError, ConfigError
from neort.generation import GenerationConfig

OPTIONS = [field.name for field in dataclasses.fields(GenerationConfig)]
INTEGERS = [
    "max_new_tokens",
    "min_new_tokens",
    "min_length",
    "top_k",
    "pad_token_id",
    "seed",
    "num_return_sequences",
]
REALS = ["temperature", "top_p", "repetition_penalty"]


def sampling(**options: Any) -> GenerationConfig:
    return GenerationConfig(do_sample=True, **options)


def test_defaults_are_greedy_decoding_of_128_tokens() -> None:
    config = GenerationConfig()
    assert (config.max_new_tokens, config.do_sample, config.top_k, config.overflow) == (
        128,
        False,
        50,
        "error",
    )
    assert (config.eos_token_ids, config.stop_strings, config.seed) == ((), (), None)


def test_options_are_keyword_only() -> None:
    with pytest.raises(TypeError):
        GenerationConfig(64)  # type: ignore[call-arg, arg-type]


def test_an_unknown_option_is_a_type_error_in_the_constructor() -> None:
    with pytest.raises(ArgumentTypeError, match="unknown generation option 'temperture'; did you mean 'temperature'"):
        GenerationConfig(temperture=4)  # type: ignore[call-arg]


def test_a_config_is_immutable_hashable_and_survives_pickling() -> None:
    config = sampling(temperature=0.7, stop_strings=["a", "b"], eos_token_id=[1, 2])
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.top_k = 3  # type: ignore[misc]
    assert len({config, pickle.loads(pickle.dumps(config)), config.replace()}) == 1


def test_numpy_scalars_become_python_scalars() -> None:
    options: dict[str, Any] = {
        "max_new_tokens": np.int32(7),
        "do_sample": np.True_,
        "temperature": np.float32(0.5),
        "top_p": 1,
        "seed": np.uint64(2**63),
        "eos_token_id": np.int64(3),
    }
    config = GenerationConfig(**options)
    kinds = [type(getattr(config, name)) for name in ("max_new_tokens", "do_sample", "temperature", "top_p", "seed")]
    assert kinds == [int, bool, float, float, int]
    assert config.eos_token_ids == (3,)
    assert type(config.eos_token_id) is int
    assert json.loads(json.dumps(dataclasses.asdict(config)))["seed"] == 2**63


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("value", [True, 1.0, "1", np.float32(1), [1]])
def test_an_integer_option_refuses_other_types(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=rf"^{name}=.* must be an integer, not \w+: "):
        sampling(**{name: value})


@pytest.mark.parametrize("name", REALS)
@pytest.mark.parametrize("value", [True, "1", [1.0], 1j])
def test_a_real_option_refuses_other_types(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=rf"^{name}=.* must be a number, not \w+: "):
        sampling(**{name: value})


@pytest.mark.parametrize("name", ["max_new_tokens", "num_return_sequences"])
def test_a_count_cannot_be_off(name: str) -> None:
    with pytest.raises(TypeError, match=f"^{name}=None"):
        sampling(**{name: None})


@pytest.mark.parametrize("value", [0, 1, None, "yes"])
def test_do_sample_is_a_boolean(value: object) -> None:
    with pytest.raises(TypeError, match=r"^do_sample="):
        GenerationConfig(do_sample=value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_new_tokens", 0),
        ("min_new_tokens", -1),
        ("min_length", -1),
        ("top_k", -1),
        ("pad_token_id", -1),
        ("seed", -1),
        ("num_return_sequences", 0),
        ("eos_token_id", -1),
        ("eos_token_id", (1, -1)),
    ],
)
def test_an_integer_below_its_limit_is_refused_with_the_limit_and_a_remedy(name: str, value: object) -> None:
    smallest = 1 if name in ("max_new_tokens", "num_return_sequences") else 0
    with pytest.raises(ConfigError, match=rf"^{name}=-?\d+ must be at least {smallest}: \w+"):
        sampling(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", 0.0), ("temperature", -1.0), ("temperature", 1e300), ("top_p", -0.1), ("top_p", 1.1)]
    + [("repetition_penalty", 0.0), ("repetition_penalty", 1e300)]
    + [(name, value) for name in REALS for value in (math.nan, math.inf, -math.inf)],
)
def test_a_real_out_of_range_is_refused_with_the_limits_and_a_remedy(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"^{name}={re.escape(str(value))} must lie between .* and .*: .*None"):
        sampling(**{name: value})


def test_temperature_zero_is_told_about_greedy_decoding() -> None:
    with pytest.raises(ConfigError, match="do_sample=False for greedy"):
        sampling(temperature=0)


def test_more_tokens_required_than_allowed_is_refused() -> None:
    assert GenerationConfig(min_new_tokens=5, max_new_tokens=5).min_new_tokens == 5
    with pytest.raises(ConfigError, match="min_new_tokens=6 exceeds max_new_tokens=5"):
        GenerationConfig(min_new_tokens=6, max_new_tokens=5)


@pytest.mark.parametrize(("name", "value"), [("temperature", 0.7), ("top_p", 0.9), ("top_k", 10)])
def test_a_sampling_option_that_greedy_decoding_would_ignore_is_refused(name: str, value: float) -> None:
    options: dict[str, Any] = {name: value}
    with pytest.raises(ConfigError, match=f"^{name}={value} has no effect with do_sample=False: set do_sample=True"):
        GenerationConfig(**options)


@pytest.mark.parametrize(("name", "value"), [("temperature", 1.0), ("top_p", 1), ("top_k", None), ("top_k", 0)])
def test_a_neutral_sampling_option_goes_with_greedy_decoding(name: str, value: float | None) -> None:
    options: dict[str, Any] = {name: value}
    assert getattr(GenerationConfig(**options), name) == value


def test_several_sequences_need_sampling() -> None:
    assert sampling(num_return_sequences=3).num_return_sequences == 3
    with pytest.raises(ConfigError, match="num_return_sequences=3 needs do_sample=True"):
        GenerationConfig(num_return_sequences=3)


def test_overflow_is_one_of_three_policies() -> None:
    for policy in ("error", "stop", "truncate_left"):
        assert GenerationConfig(overflow=policy).overflow == policy
    with pytest.raises(ConfigError, match="'shift' is not known: use one of error, stop, truncate_left"):
        GenerationConfig(overflow="shift")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^overflow=None must be a string"):
        GenerationConfig(overflow=None)  # type: ignore[arg-type]


@pytest.mark.parametrize(("given", "stored"), [("ab", ("ab",)), (["a", "b"], ("a", "b")), ((), ()), (None, ())])
def test_stop_strings_become_a_tuple(given: object, stored: tuple[str, ...]) -> None:
    assert GenerationConfig(stop_strings=given).stop_strings == stored  # type: ignore[arg-type]


@pytest.mark.parametrize("given", ["", ["a", ""]])
def test_an_empty_stop_string_is_refused(given: object) -> None:
    with pytest.raises(ConfigError, match=r"^stop_strings holds an empty string"):
        GenerationConfig(stop_strings=given)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [b"a", 3, {"a"}, ["a", b"b"], [None]])
def test_stop_strings_of_another_type_are_refused(given: object) -> None:
    with pytest.raises(TypeError, match=r"^stop_strings"):
        GenerationConfig(stop_strings=given)  # type: ignore[arg-type]


@pytest.mark.parametrize(("given", "ids"), [(None, ()), (0, (0,)), ([5, 6], (5, 6)), ((np.int32(7),), (7,))])
def test_eos_token_ids_is_always_a_tuple(given: object, ids: tuple[int, ...]) -> None:
    assert GenerationConfig(eos_token_id=given).eos_token_ids == ids  # type: ignore[arg-type]


@pytest.mark.parametrize("given", ["5", True, 5.0, [True], ["5"]])
def test_eos_token_id_of_another_type_is_refused(given: object) -> None:
    with pytest.raises(TypeError, match=r"^eos_token_id="):
        GenerationConfig(eos_token_id=given)  # type: ignore[arg-type]


def test_an_empty_list_of_eos_tokens_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"eos_token_id=.*holds no id: .*None"):
        GenerationConfig(eos_token_id=())


def test_replace_changes_the_named_options_only() -> None:
    config = sampling(temperature=0.7, seed=1)
    assert config.replace(seed=2) == sampling(temperature=0.7, seed=2)
    assert config.seed == 1


@pytest.mark.parametrize(
    ("wrong", "right"), [("max_new_token", "max_new_tokens"), ("topk", "top_k"), ("seeds", "seed")]
)
def test_replace_names_the_closest_option_for_an_unknown_one(wrong: str, right: str) -> None:
    wrong_option: dict[str, Any] = {wrong: 1}
    with pytest.raises(TypeError, match=f"unknown generation option '{wrong}'; did you mean '{right}'"):
        GenerationConfig().replace(**wrong_option)


def test_replace_lists_the_options_where_none_is_close() -> None:
    with pytest.raises(TypeError, match=r"'xyzzy'; known options: max_new_tokens, .*overflow"):
        GenerationConfig().replace(xyzzy=1)  # type: ignore[call-arg]


def test_replace_checks_the_new_values() -> None:
    with pytest.raises(ConfigError, match="max_new_tokens=0"):
        GenerationConfig().replace(max_new_tokens=0)


def test_asking_a_sampling_config_for_greedy_decoding_drops_its_sampling_options() -> None:
    config = sampling(temperature=0.7, top_k=5, top_p=0.9, repetition_penalty=1.2)
    assert config.replace(do_sample=False) == GenerationConfig(repetition_penalty=1.2)
    with pytest.raises(ConfigError, match=r"temperature=0.5 has no effect"):
        config.replace(do_sample=False, temperature=0.5)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "max_new_tokens": st.integers(10, 10**6),
            "min_new_tokens": st.none() | st.integers(0, 10),
            "temperature": st.none() | st.floats(1e-6, 1e6),
            "top_k": st.none() | st.integers(0, 10**6),
            "top_p": st.none() | st.floats(0, 1),
            "eos_token_id": st.none() | st.integers(0, 9) | st.lists(st.integers(0, 9), min_size=1),
            "stop_strings": st.text(min_size=1) | st.lists(st.text(min_size=1)),
            "seed": st.none() | st.integers(0),
        },
    )
)
def test_a_config_is_unchanged_by_a_round_trip_through_json(options: dict[str, object]) -> None:
    config = sampling(**options)
    assert GenerationConfig.from_hf(json.loads(json.dumps(dataclasses.asdict(config)))) == config
    assert config.replace(**dataclasses.asdict(config)) == config


def test_from_hf_reads_the_file_of_gpt_neo_without_a_warning() -> None:
    file = {"_from_model_config": True, "bos_token_id": 50256, "eos_token_id": 50256}
    config = GenerationConfig.from_hf(file | {"transformers_version": "4.27.0.dev0"})
    assert config == GenerationConfig(eos_token_id=50256)


def test_from_hf_takes_the_known_options() -> None:
    file = {"do_sample": True, "temperature": 1, "top_p": 0.9, "max_new_tokens": 9, "eos_token_id": [1, 2]}
    assert GenerationConfig.from_hf(file) == sampling(temperature=1.0, top_p=0.9, max_new_tokens=9, eos_token_id=(1, 2))


def test_from_hf_keeps_top_k_of_50_where_absent_and_turns_it_off_where_null() -> None:
    assert GenerationConfig.from_hf({"do_sample": True}).top_k == 50
    assert GenerationConfig.from_hf({"do_sample": True, "top_k": None}).top_k is None


def test_from_hf_takes_null_as_absent() -> None:
    nothing = dict.fromkeys([name for name in OPTIONS if name != "top_k"] + ["max_length", "novelty"])
    assert GenerationConfig.from_hf(nothing) == GenerationConfig()


def test_from_hf_leaves_the_number_of_sequences_to_the_call() -> None:
    with pytest.warns(UserWarning, match="num_return_sequences=3 is for a call to say"):
        config = GenerationConfig.from_hf({"do_sample": True, "num_return_sequences": 3})
    assert config.num_return_sequences == 1


def test_from_hf_names_everything_it_ignores_in_one_warning() -> None:
    file = {"penalty_alpha": 0.6, "top_a": 3, "max_length": 0, "novelty": 1, "temperature": 0.9}
    with pytest.warns(UserWarning, match="ignored options") as record:
        config = GenerationConfig.from_hf(file)
    (warning,) = record
    for part in (
        "penalty_alpha=0.6",
        "top_a=3",
        "max_length=0 cannot be honoured",
        "novelty=1",
        "temperature=0.9 without",
    ):
        assert part in str(warning.message)
    assert warning.filename == __file__
    assert config == GenerationConfig()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("penalty_alpha", 0.6),
        ("watermarking_config", {"bias": 2.0}),
    ],
)
def test_from_hf_warns_of_an_option_that_neort_lacks(key: str, value: object) -> None:
    with pytest.warns(UserWarning, match=f"neort does not have {key}="):
        GenerationConfig.from_hf({key: value})


@pytest.mark.parametrize("value", [0, -1, -0.5, False, "many", [64], {}])
def test_from_hf_refuses_a_limit_that_transformers_does_not_load(value: object) -> None:
    with pytest.raises((TypeError, ConfigError), match=r"max_new_tokens=.* must be"):
        GenerationConfig.from_hf({"max_new_tokens": value})


@pytest.mark.parametrize("value", ["0", [0], {}])
def test_from_hf_refuses_padding_that_transformers_does_not_load(value: object) -> None:
    with pytest.raises(TypeError, match=r"pad_token_id=.* must be an integer"):
        GenerationConfig.from_hf({"pad_token_id": value})


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "pad_token_id": (-1, 1.5, True),
        "eos_token_id": (-1, [-1], True, "0", 1.5, ["0"], [[0]], {}, [None]),
        "max_new_tokens": (64.5, 0.5, True),
        "min_new_tokens": (-1, 0.5, "10", True, [10]),
        "min_length": (-1, 10.5, "10", True, [10]),
        "temperature": (-1.0, -1, "0.7", [0.7], True, False, {}, 1e39),
        "top_p": (1.5, -1, "0.9", True, [0.9], {}),
        "repetition_penalty": (0, 0.0, -1.0, 1e39, "1.2", True, [1.2]),
        "do_sample": ("true", "false", [], {}, [True]),
        "stop_strings": ("", [""], 5, [5], True, {}, {"a": 1}),
        "seed": ("x", -1, 1.5),
        "overflow": ("x", 5, []),
    }.items(),
)
def test_from_hf_leaves_out_and_names_a_value_without_a_meaning(name: str, values: Sequence[object]) -> None:
    sampled = {"do_sample": True} if name in ("temperature", "top_p") else {}
    for value in values:
        with pytest.warns(UserWarning, match=f"{name}=.* cannot be honoured") as record:
            config = GenerationConfig.from_hf({**sampled, name: value})
        assert len(record) == 1
        assert config == GenerationConfig.from_hf(sampled)


@pytest.mark.parametrize("value", [-1, "5", 5.5, True, [5]])
def test_from_hf_takes_a_top_k_without_a_meaning_as_off(value: object) -> None:
    with pytest.warns(UserWarning, match="top_k=.* cannot be honoured"):
        assert GenerationConfig.from_hf({"do_sample": True, "top_k": value}).top_k is None


@pytest.mark.parametrize(
    ("file", "options"),
    [
        ({"max_new_tokens": 64.0}, {"max_new_tokens": 64}),
        ({"eos_token_id": 2.0}, {"eos_token_id": 2}),
        ({"eos_token_id": [2.0, 3]}, {"eos_token_id": (2, 3)}),
        ({"eos_token_id": []}, {}),
        ({"stop_strings": []}, {}),
        ({"do_sample": 1}, {"do_sample": True}),
        ({"do_sample": 0.0}, {}),
        ({"max_new_tokens": 9, "max_length": 400}, {"max_new_tokens": 9}),
        ({"min_length": 200}, {"min_length": 200}),
    ],
)
def test_from_hf_takes_values_by_their_meaning_without_a_word(file: dict[str, object], options: dict[str, Any]) -> None:
    assert GenerationConfig.from_hf(file) == GenerationConfig(**options)


def test_from_hf_keeps_the_sound_ones_of_several() -> None:
    with pytest.warns(UserWarning, match=r"eos_token_id=\[-1\], stop_strings=\[None\] cannot be honoured"):
        config = GenerationConfig.from_hf({"eos_token_id": [0, -1], "stop_strings": ["a", None]})
    assert (config.eos_token_ids, config.stops) == ((0,), ("a",))


@pytest.mark.parametrize("temperature", [0, 0.0, 1e-7])
def test_from_hf_takes_the_coldest_sampling_as_greedy_decoding(temperature: float) -> None:
    with pytest.warns(UserWarning, match=f"temperature={temperature} is greedy decoding"):
        config = GenerationConfig.from_hf({"do_sample": True, "temperature": temperature, "max_new_tokens": 9})
    assert config == GenerationConfig(max_new_tokens=9)


@pytest.mark.parametrize(("most", "least"), [({}, 128), ({"max_new_tokens": 30}, 30)])
def test_from_hf_bounds_the_minimum_by_the_maximum(most: dict[str, int], least: int) -> None:
    with pytest.warns(UserWarning, match=f"min_new_tokens=200 holds up to max_new_tokens={least}"):
        config = GenerationConfig.from_hf({**most, "min_new_tokens": 200})
    assert (config.min_new_tokens, config.max_new_tokens) == (least, least)
    assert config.replace(max_new_tokens=5) == GenerationConfig(max_new_tokens=5, min_new_tokens=5)
    with pytest.raises(ConfigError, match="min_new_tokens=9 exceeds"):
        config.replace(max_new_tokens=5, min_new_tokens=9)


def test_from_hf_refuses_what_is_not_an_object() -> None:
    with pytest.raises(TypeError, match="must hold an object of options, not list"):
        GenerationConfig.from_hf([])  # type: ignore[arg-type]


def test_every_neutral_default_of_transformers_loads_without_a_warning() -> None:
    hf = pytest.importorskip("transformers.generation.configuration_utils", exc_type=ImportError)
    stored = hf.GenerationConfig(max_new_tokens=128).to_dict()
    config = GenerationConfig.from_hf({key: value for key, value in stored.items() if value is not None})
    expected: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0, "repetition_penalty": 1.0, "min_length": 0}
    expected |= {"typical_p": 1.0, "epsilon_cutoff": 0.0, "eta_cutoff": 0.0, "no_repeat_ngram_size": 0}
    stated = {name: value for name, value in expected.items() if getattr(config, name) is not None}
    assert config == GenerationConfig(**stated)


@pytest.mark.parametrize("name", ["temperature", "top_p", "top_k", "repetition_penalty", "min_new_tokens"])
def test_option_names_are_those_of_transformers(name: str) -> None:
    hf = pytest.importorskip("transformers.generation.configuration_utils", exc_type=ImportError)
    assert hasattr(hf.GenerationConfig(), name)
