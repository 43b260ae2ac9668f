"""What follows from the fields of GenerationConfig: flags, types, JSON schemas."""

from __future__ import annotations

import argparse
import dataclasses
import json
import typing

import pytest

from neort import ConfigError
from neort.cli.arguments import add_generation_options
from neort.generation import OPTIONS, GenerationConfig, GenerationOptions

NAMES = [field.name for field in dataclasses.fields(GenerationConfig)]


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser()
    add_generation_options(made)
    return made


def test_every_field_is_an_option_with_a_flag_of_its_own() -> None:
    flags = {action.dest: action.option_strings for action in parser()._actions if action.dest != "help"}
    assert list(OPTIONS) == list(flags)
    assert sorted(OPTIONS) == sorted(NAMES)
    assert all(OPTIONS[name].flag in strings for name, strings in flags.items())


def test_a_flag_is_the_fields_name_with_dashes_but_for_stop_strings() -> None:
    renamed = {name: option.flag for name, option in OPTIONS.items() if option.flag != f"--{name.replace('_', '-')}"}
    assert renamed == {"stop_strings": "--stop"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], {}),
        (["--top-k", "3", "--do-sample"], {"top_k": 3, "do_sample": True}),
        (["--no-do-sample"], {"do_sample": False}),
        (["--stop", "a", "--stop", "b"], {"stop_strings": ["a", "b"]}),
        (["--eos-token-id", "1", "--eos-token-id", "2"], {"eos_token_id": [1, 2]}),
        (["--overflow", "stop", "--temperature", "0.5"], {"overflow": "stop", "temperature": 0.5}),
    ],
)
def test_flags_give_what_was_said_and_nothing_else(arguments: list[str], expected: dict[str, object]) -> None:
    assert vars(parser().parse_args(arguments)) == expected


def test_overrides_have_the_types_of_the_fields() -> None:
    fields = typing.get_type_hints(GenerationConfig)
    expected = {name: fields[name] for name in NAMES if name != "num_return_sequences"}
    assert typing.get_type_hints(GenerationOptions) == expected


@pytest.mark.parametrize("name", NAMES)
def test_a_default_is_within_its_own_range(name: str) -> None:
    default = getattr(GenerationConfig(), name)
    assert OPTIONS[name].check(name, default) == default


@pytest.mark.parametrize("name", NAMES)
def test_every_option_says_what_it_is(name: str) -> None:
    schema = OPTIONS[name].json_schema()
    assert schema["description"] == OPTIONS[name].help != ""
    assert json.loads(json.dumps(schema)) == schema
    assert f"{name}: {OPTIONS[name].help}" in (GenerationConfig.__doc__ or "")


@pytest.mark.parametrize("name", ["max_new_tokens", "min_length", "top_k", "temperature", "top_p", "seed"])
def test_a_schemas_limits_are_those_of_the_check(name: str) -> None:
    option = OPTIONS[name]
    limits = option.kind.json_schema()
    for limit in (limits.get("minimum"), limits.get("maximum")):
        if limit is not None:
            assert option.check(name, limit) == limit
    with pytest.raises(ConfigError, match=f"^{name}="):
        option.check(name, limits["minimum"] - 1)
    if "maximum" in limits:
        with pytest.raises(ConfigError, match=f"^{name}="):
            option.check(name, limits["maximum"] * 2)
