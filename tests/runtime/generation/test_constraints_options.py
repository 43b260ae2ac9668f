"""The options that constrain a text, as values: what they take, how they are stored, and what they need."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

import neort
from neort.cli.arguments import add_generation_options
from neort.errors import ArgumentTypeError, ConfigError
from neort.generation import GenerationConfig, TokenChooser
from neort.generation.constraints.schemas import with_inclusive_bounds
from patience import PATIENCE


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ({"type": "object", "properties": {"z": {}, "ä": {}}}, '{"type":"object","properties":{"z":{},"ä":{}}}'),
        (' { "type" : "string" } ', '{"type":"string"}'),
        (MappingProxyType({"minimum": 1.5}), '{"minimum":1.5}'),
        (True, "{}"),
        ("true", "{}"),
        (None, None),
    ],
)
def test_a_schema_is_stored_as_json_in_the_order_given(value: Any, stored: str | None) -> None:
    config = GenerationConfig(json_schema=value)
    assert config.json_schema == stored
    assert hash(config) == hash(config.replace(json_schema=stored))
    assert config == config.replace(max_new_tokens=7).replace(max_new_tokens=128)


def test_choices_are_stored_once_each_in_the_order_given() -> None:
    assert GenerationConfig(choice=["b", "a", "b", "ab"]).choice == ("b", "a", "ab")
    assert GenerationConfig(choice=["b"]).constraint == ("choice", ("b",))
    assert GenerationConfig().constraint is None


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"json_schema": "{"}, ConfigError, "is no JSON"),
        ({"json_schema": "[1]"}, ArgumentTypeError, "an object or True, not list"),
        ({"json_schema": 5}, ArgumentTypeError, "not int"),
        ({"json_schema": dict}, ArgumentTypeError, r"model_json_schema\(\)"),
        ({"json_schema": False}, ConfigError, "allows no value at all"),
        ({"json_schema": {"const": float("nan")}}, ConfigError, "cannot be written as JSON"),
        ({"json_schema": {"const": {1, 2}}}, ArgumentTypeError, "what JSON cannot say"),
        ({"json_schema": '{"a":' * 5000 + "1" + "}" * 5000}, ConfigError, "cannot be read as JSON"),
        ({"json_schema": {"const": "\ud800"}}, ConfigError, "lone surrogate"),
        ({"regex": ""}, ConfigError, "is empty"),
        ({"regex": b"a"}, ArgumentTypeError, "must be a string, not bytes"),
        ({"regex": "a" * 1_000_001}, ConfigError, "1,000,001 characters, and at most 1,000,000"),
        ({"grammar": "start: \ud800"}, ConfigError, "lone surrogate"),
        ({"choice": "yes"}, ArgumentTypeError, "a sequence of strings, not str"),
        ({"choice": []}, ConfigError, "holds no text to choose"),
        ({"choice": ["a", ""]}, ConfigError, "holds an empty string"),
        ({"choice": ["a", 1]}, ArgumentTypeError, "holds 1, which is no string but int"),
        ({"choice": ["a" * 600_000, "b" * 600_000]}, ConfigError, "1,200,000 characters"),
        ({"regex": "a", "choice": ["a"]}, ConfigError, "regex and choice are given"),
    ],
)
def test_a_value_that_is_no_grammar_is_refused(options: dict[str, Any], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told) as raised:
        GenerationConfig(**options)
    assert len(str(raised.value)) < 500


def test_one_grammar_takes_the_place_of_another_where_that_is_put_off() -> None:
    config = GenerationConfig(regex="a")
    with pytest.raises(ConfigError, match="leave one"):
        config.replace(choice=["a"])
    assert config.replace(regex=None, choice=["a"]).constraint == ("choice", ("a",))


def test_flags_take_text_and_files(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    add_generation_options(parser)
    (tmp_path / "schema.json").write_text('{"const": "ü"}', encoding="utf-8")
    (tmp_path / "latin").write_bytes(b"\xfc")
    parsed = vars(
        parser.parse_args(["--json-schema", f"@{tmp_path / 'schema.json'}", "--choice", "a", "--choice", "@b"])
    )
    assert parsed == {"json_schema": '{"const": "ü"}', "choice": ["a", "@b"]}
    assert vars(parser.parse_args(["--regex", "@a", "--grammar", "start: /a/"])) == {
        "regex": "@a",
        "grammar": "start: /a/",
    }
    for missing in (tmp_path / "none", tmp_path, tmp_path / "latin"):
        with pytest.raises(SystemExit):
            parser.parse_args(["--grammar", f"@{missing}"])


@pytest.mark.parametrize(
    ("name", "told"),
    [("response_format", "json_schema"), ("guided_regex", "regex"), ("guided_choice", "choice"), ("gbnf", "Lark")],
)
def test_names_of_other_libraries_are_told_the_options(name: str, told: str) -> None:
    with pytest.raises(ArgumentTypeError, match=told):
        GenerationConfig(**{name: "x"})  # type: ignore[arg-type]


def test_a_generation_config_json_constrains_no_text() -> None:
    with pytest.warns(UserWarning, match=r"neort does not have .*regex"):
        config = GenerationConfig.from_hf(
            {"regex": "a(", "grammar": 7, "choice": ["x"], "json_schema": {"type": "null"}}
        )
    assert config == GenerationConfig()


def test_a_chooser_without_a_tokenizer_refuses_a_grammar() -> None:
    with pytest.raises(ConfigError, match="regex needs a tokenizer"):
        TokenChooser.from_config(GenerationConfig(regex="a"), 1)


def test_without_llguidance_a_grammar_says_what_to_install(model: neort.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(neort.MissingExtraError, match=r'^regex needs llguidance, .*pip install "neort\[grammar\]"$'):
        model.generate("x", regex="never met before")
    assert model.generate("x", max_new_tokens=1).token_ids


def test_nothing_loads_llguidance_before_a_grammar_does() -> None:
    program = (
        "import sys, neort; neort.load(num_threads=1).generate('a', max_new_tokens=2); "
        "neort.GenerationConfig(regex='a'); sys.exit('llguidance' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], timeout=PATIENCE, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_bounds_become_inclusive_where_they_are_keywords_and_nowhere_else() -> None:
    untouched: dict[str, Any] = {
        "properties": {"exclusiveMinimum": {"type": "string"}},
        "const": {"exclusiveMinimum": 3},
        "exclusiveMaximum": True,
        "items": [{"exclusiveMinimum": 2**60}],
    }
    assert json.loads(with_inclusive_bounds(json.dumps(untouched))) == untouched
    bounded = {
        "anyOf": [{"exclusiveMinimum": 3, "minimum": 5}, {"exclusiveMaximum": 0}],
        "$defs": {"a": {"minimum": 1}},
    }
    changed = json.loads(with_inclusive_bounds(json.dumps(bounded)))
    assert changed["anyOf"][0] == {"minimum": 5}
    assert -1e-12 < changed["anyOf"][1].pop("maximum") < 0
    assert changed == {"anyOf": [{"minimum": 5}, {}], "$defs": {"a": {"minimum": 1}}}
