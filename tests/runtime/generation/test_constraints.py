"""Grammars: what comes out follows them, whoever asks and however it is decoded; those that cannot be used say why."""

from __future__ import annotations

import copy
import itertools
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neort
from neort.arrays import Ids
from neort.errors import ConfigError, LogitsError
from neort.generation import Constraint, GenerationConfig, Grammars
from neort.speculative.speculator import Cost, Speculator
from neort.tokenizer import Tokenizer

pytest.importorskip("llguidance")

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 9}, "likes": {"enum": ["日本", "tea", None]}},
    "required": ["name", "likes"],
    "additionalProperties": False,
}

CHAIN = {"$ref": "#/$defs/0", "$defs": {f"{i}": {"$ref": f"#/$defs/{i + 1}"} for i in range(3000)}}
DOUBLING = {
    "$ref": "#/$defs/0",
    "$defs": {f"{i}": {"allOf": [{"$ref": f"#/$defs/{i + 1}"}] * 2} for i in range(40)}
    | {"40": {"type": "string", "pattern": "a"}}
    | {f"p{i}": {"type": "string", "pattern": "a"} for i in range(12)},
}


@pytest.fixture(scope="module")
def grammars(model: neort.Model) -> Grammars:
    return Grammars(model.tokenizer, model.spec.vocab_size)


def constraint(grammars: Grammars, eos: int | None = 0, prompt: int = 0, **options: Any) -> Constraint:
    made = grammars.constraint(GenerationConfig(eos_token_id=eos, **options), prompt)
    assert made is not None
    return made


def ids_of(tokenizer: Tokenizer, text: str) -> Ids:
    return np.array(tokenizer.encode_part(text), np.int64)


def allowed(held: Constraint, ids: Ids, size: int = 4096) -> list[int]:
    """The tokens that may follow, in order."""
    logits = held(ids, np.zeros(size, np.float32))
    return np.flatnonzero(logits == 0).tolist()


def draft_eagerly(model: neort.Model) -> None:
    """Let drafts be taken for cheap, so that there are many."""
    decoding = model._engine.core.decoding
    speculate = decoding.speculate
    assert speculate is not None

    def eager() -> Speculator:
        speculator = speculate()
        speculator._cost = Cost(0.0, 0.05)
        return speculator

    decoding.speculate = eager


def test_json_follows_its_schema_greedily_and_sampled(model: neort.Model) -> None:
    outs = model.generate(["The girl", "A boy"], json_schema=PERSON, do_sample=True, seed=3, num_return_sequences=2)
    for out in [*outs, model.generate("The girl", json_schema=PERSON)]:
        assert out.finish_reason == "stop"
        value = json.loads(out.text)
        assert list(value) == ["name", "likes"]
        assert len(value["name"]) <= 9
        assert value["likes"] in ("日本", "tea", None)


def test_a_schema_without_choice_is_written_as_json_dumps_does_and_in_the_models_own_tokens(model: neort.Model) -> None:
    value = {"größe": [1, True, {"日": "🦊"}], "<|endoftext|>": "a b"}
    out = model.generate("x", json_schema={"const": value})
    assert out.text == json.dumps(value, ensure_ascii=False)
    assert out.token_ids == tuple(model.tokenizer.encode_part(out.text))


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"regex": r"\d{3}-[a-c]+é!"}, r"[0-9]{3}-[a-c]+é!"),
        ({"choice": ["yes", "no", "no way", "a.c|d", "yes"]}, r"yes|no|no way|a\.c\|d"),
        ({"choice": ["line\nfeed/\\", "\x00"]}, "line\nfeed/\\\\|\x00"),
        ({"grammar": 'start: "a" b+\nb: /[xyz]{2}/ "!"'}, r"a([xyz]{2}!)+"),
        ({"json_schema": True}, r"(?s).+"),
        ({"json_schema": {"type": "array", "items": {"type": "integer"}, "minItems": 2}}, r"\[-?\d+(, -?\d+)+\]"),
    ],
)
def test_the_whole_text_follows(model: neort.Model, options: dict[str, Any], pattern: str) -> None:
    outs = model.generate("Once", do_sample=True, seed=1, num_return_sequences=3, max_new_tokens=60, **options)
    for out in outs:
        assert out.finish_reason == "length" or re.fullmatch(pattern, out.text)
    assert outs[0].finish_reason == "stop" or options.get("json_schema") is not None


def test_a_constrained_sequence_is_the_same_alone_and_beside_others(model: neort.Model) -> None:
    configs = [
        GenerationConfig(json_schema=PERSON, do_sample=True, seed=5),
        GenerationConfig(regex="[a-z ]{20,30}[.]"),
        GenerationConfig(max_new_tokens=30),
        GenerationConfig(choice=["cat", "dog"]),
    ]
    alone = [model.generate("She has a", config).token_ids for config in configs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda config: model.generate("She has a", config).token_ids, configs))
    assert together == alone


def test_streamed_pieces_join_to_the_text(model: neort.Model) -> None:
    pieces = list(model.stream("The girl", json_schema=PERSON))
    assert "".join(piece.text for piece in pieces) == model.generate("The girl", json_schema=PERSON).text
    assert pieces[-1].finish_reason == "stop"


@pytest.mark.parametrize("draft", ["prompt-lookup", "itself"])
@pytest.mark.usefixtures("int8_cache")
def test_drafts_change_no_token(bundle_path: Path, draft: str) -> None:
    """With an int8 cache, whose attention has the same bits however many tokens are checked in a run."""
    schema = {"type": "array", "items": PERSON, "minItems": 2, "maxItems": 2}
    plain = neort.load(bundle_path, num_threads=2, kv_cache="int8")
    drafting = neort.load(
        bundle_path, num_threads=2, kv_cache="int8", draft=bundle_path if draft == "itself" else draft
    )
    draft_eagerly(drafting)
    for sampling in (GenerationConfig(), GenerationConfig(do_sample=True, seed=2)):
        config = sampling.replace(json_schema=schema, max_new_tokens=200)
        expected, got = (each.generate("The girl", config) for each in (plain, drafting))
        assert got.token_ids == expected.token_ids
        assert got.finish_reason == expected.finish_reason == "stop"
        assert got.stats.accepted_tokens > 0


def test_a_text_ends_where_nothing_may_follow_also_without_an_end_of_text_token(
    model: neort.Model, grammars: Grammars
) -> None:
    for eos in (None, 0):
        held = constraint(grammars, eos, choice=["cat", "cattle"])
        assert held.is_complete(ids_of(model.tokenizer, "cattle"))
        assert not held.is_complete(ids_of(model.tokenizer, "cat"))
        assert (0 in allowed(held, ids_of(model.tokenizer, "cat"))) is (eos == 0)
        assert not held.is_complete(ids_of(model.tokenizer, "ca"))


def test_an_end_of_text_token_is_allowed_only_where_the_text_may_end(model: neort.Model, grammars: Grammars) -> None:
    letter = int(ids_of(model.tokenizer, "a")[0])
    held = constraint(grammars, letter, regex="b?[ab]*c")
    assert letter not in allowed(held, np.array([], np.int64))
    assert not held.is_complete(ids_of(model.tokenizer, "b"))
    held = constraint(grammars, letter, regex="b+")
    assert letter in allowed(held, ids_of(model.tokenizer, "b"))
    with pytest.raises(LogitsError, match="no token of this model continues the text"):
        allowed(constraint(grammars, letter, regex="ba"), ids_of(model.tokenizer, "b"))


def test_special_tokens_are_no_text(model: neort.Model, grammars: Grammars) -> None:
    held = constraint(grammars, None, regex="[^z]{2,40}z")
    assert 0 not in allowed(held, np.array([], np.int64))
    out = model.generate("x", regex=re.escape("<|endoftext|>"))
    assert 0 not in out.token_ids
    assert model.tokenizer.decode(out.token_ids) == out.text == "<|endoftext|>"


def test_ids_that_go_back_or_turn_elsewhere_are_followed(model: neort.Model, grammars: Grammars) -> None:
    texts = ["", "12", "1", "12-3", "12-", "9", "12-34", "12-3", "", "77-1"]
    held = constraint(grammars, regex=r"\d\d-\d\d", prompt=3)
    prompt = np.array([5, 6, 7])
    for text in texts:
        ids = np.concatenate([prompt, ids_of(model.tokenizer, text)])
        fresh = constraint(grammars, regex=r"\d\d-\d\d", prompt=3)
        assert held.is_complete(ids) == fresh.is_complete(ids) == (text == "12-34")
        if text != "12-34":
            assert allowed(held, ids) == allowed(fresh, ids)


def test_a_copy_goes_on_independently(model: neort.Model, grammars: Grammars) -> None:
    held = constraint(grammars, regex="(a{3}|b{3})!")
    start = np.array([], np.int64)
    before = allowed(held, start)
    copies = {letter: copy.deepcopy(held) for letter in "ab"}
    for letter, other in copies.items():
        later = allowed(other, ids_of(model.tokenizer, letter))
        assert {model.tokenizer.token_bytes(i)[:1] for i in later} == {letter.encode()}
    assert allowed(held, start) == before
    assert allowed(copies["a"], start) == before
    assert allowed(copy.deepcopy(copies["b"]), start) == before


def test_after_an_end_of_text_token_nothing_else_comes(grammars: Grammars, model: neort.Model) -> None:
    held = constraint(grammars, regex="a+")
    ended = np.append(ids_of(model.tokenizer, "a"), 0)
    assert allowed(held, ended) == [0]
    assert held.is_complete(ended)
    assert 0 in allowed(held, ended[:-1])


def test_logits_of_another_length_have_no_more_tokens(grammars: Grammars) -> None:
    held = constraint(grammars, regex="[a-z]+")
    assert max(allowed(held, np.array([], np.int64), 5000)) < 4096
    assert allowed(held, np.array([], np.int64), 100) == [i for i in allowed(held, np.array([], np.int64)) if i < 100]


def test_stop_strings_and_limits_still_end_a_text(model: neort.Model) -> None:
    out = model.generate("x", regex="[ab]{4}-[ab]{4}", stop_strings="-")
    assert (re.fullmatch("[ab]{4}", out.text) is not None, out.finish_reason) == (True, "stop")
    assert model.generate("x", regex="a{500}", max_new_tokens=3).finish_reason == "length"
    assert model.generate("x", choice=["a"], max_new_tokens=1, min_new_tokens=1).finish_reason == "stop"


def test_a_grammar_that_is_complete_ends_the_text_before_min_new_tokens(model: neort.Model) -> None:
    out = model.generate("x", choice=["yes"], min_new_tokens=20)
    assert (out.text, out.finish_reason) == ("yes", "stop")
    assert len(model.generate("x", regex="a*", min_new_tokens=20).token_ids) >= 20


def test_a_window_that_drops_the_oldest_tokens_loses_nothing(model: neort.Model) -> None:
    prompt = [5] * (model.spec.max_position_embeddings - 4)
    out = model.generate(prompt, regex="(?:[a-z]{1,3} ){40}!", overflow="truncate_left", max_new_tokens=200)
    assert out.finish_reason == "stop"
    assert re.fullmatch("(?:[a-z]{1,3} ){40}!", out.text)


def test_processors_that_leave_no_token_say_so(model: neort.Model) -> None:
    def forbid(ids: Ids, logits: Any) -> Any:
        logits[:] = np.where(np.arange(logits.size) == 1, logits, -np.inf)
        return logits

    with pytest.raises(LogitsError, match=r"^choice and other options leave no token"):
        model.generate("x", choice=["abc"], logits_processor=[forbid])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"regex": "a("}, "regex='a\\(' cannot be used: unclosed group"),
        ({"regex": r"(a)\1"}, "backreferences are not supported"),
        ({"regex": "[^\\s\\S]"}, "allows no text at all"),
        ({"regex": "a{0}"}, "allows the empty text alone"),
        ({"regex": "(" * 9000 + "a" + ")" * 9000}, "cannot be used: .*nested"),
        ({"grammar": 'start: "a" c'}, 'unknown name: "c"'),
        ({"grammar": "root ::= [a-z]+"}, "read as Lark, not as GBNF"),
        ({"json_schema": {"type": "foo"}}, "Invalid type: foo"),
        ({"json_schema": {"not": {"type": "string"}}}, 'Unimplemented keys: \\["not"\\]'),
        ({"json_schema": {"type": "integer", "minimum": 3, "maximum": 2}}, "Unsatisfiable schema"),
        ({"json_schema": {"oneOf": [{"type": "integer"}, {"type": "number"}]}}, "oneOf"),
        ({"json_schema": {"$ref": "#/$defs/none"}}, "does not exist"),
        ({"json_schema": {"$ref": "https://127.0.0.1/x.json"}}, "does not fetch"),
        ({"json_schema": {"$ref": "#"}}, "allows no text at all"),
        (
            {"json_schema": {"type": "integer", "multipleOf": 9_999_991}},
            "9,999,991 steps of multipleOf, and at most 100,000",
        ),
        ({"json_schema": {"allOf": [{"pattern": f"a.*{i}"} for i in range(20)]}}, "20 patterns for one string"),
        ({"json_schema": CHAIN}, r"3,001 \$ref in a schema, and at most 1,000"),
        ({"json_schema": DOUBLING}, "patterns for one string, and at most 12"),
        ({"grammar": "start: r0\n" + "".join(f"r{i}: r{i + 1}\n" for i in range(3000))}, "3,001 rules in a grammar"),
        ({"grammar": "start: A\nA: " + " & ".join("/a.*/" for _ in range(20))}, "19 & in a grammar"),
        ({"json_schema": json.loads('{"items":' * 200 + "{}" + "}" * 200)}, "recursion limit"),
    ],
)
def test_a_grammar_that_cannot_be_used_is_refused_before_anything_runs(
    model: neort.Model, options: dict[str, Any], told: str
) -> None:
    for call in (model.generate, model.stream):
        with pytest.raises(ConfigError, match=told) as error:
            call("x", **options)
        assert len(str(error.value)) < 600
        assert "\n" not in str(error.value)


def test_a_grammar_that_takes_too_much_work_ends_its_own_request_alone(model: neort.Model) -> None:
    with ThreadPoolExecutor(2) as pool:
        other = pool.submit(model.generate, "She", regex="[a-z ]{60}", max_new_tokens=100)
        for regex in ("((a{1,1000}){1,1000}){1,1000}", "(a?){5000}a{5000}"):
            with pytest.raises(ConfigError, match=r"takes more work than is allowed.*make it simpler"):
                model.generate("x", regex=regex, max_new_tokens=300)
        assert other.result().finish_reason == "stop"


def test_one_of_ten_thousand_texts_is_chosen(model: neort.Model) -> None:
    choices = [f"choice {i} ü" for i in range(10_000)]
    outs = model.generate("x", choice=choices, do_sample=True, seed=1, num_return_sequences=2)
    assert {out.text for out in outs} <= set(choices)


def test_exclusive_bounds_exclude(model: neort.Model, grammars: Grammars) -> None:
    def fits(schema: dict[str, Any], text: str) -> bool:
        held = constraint(grammars, json_schema=schema)
        try:
            return 0 in allowed(held, ids_of(model.tokenizer, text))
        except LogitsError as error:
            return "is complete" in str(error)

    for low, high in itertools.combinations([-3.5, -3, 0, 0.25, 3, 3.5, 100], 2):
        schema = {"type": "number", "exclusiveMinimum": low, "exclusiveMaximum": high}
        assert not any(fits(schema, text) for text in (f"{low}", f"{float(low)}", f"{high}", f"{high}00000001e0"))
        assert fits(schema, f"{(low + high) / 2:g}"), schema
    assert not fits({"type": "number", "exclusiveMinimum": 3, "maximum": 4}, "3.00000000000000000001")
    assert fits(
        {"properties": {"exclusiveMinimum": {"const": {"exclusiveMinimum": 3}}}},
        '{"exclusiveMinimum": {"exclusiveMinimum": 3}}',
    )


def test_random_schemas_and_expressions_are_followed(model: neort.Model) -> None:
    pytest.importorskip("jsonschema")
    from random_grammars import follows, random_config

    configs = [random_config(seed, max_new_tokens=100) for seed in range(5000, 5016)]
    with ThreadPoolExecutor(8) as pool:
        outs = list(pool.map(lambda config: model.generate("Once", config), configs))
    ended = [(config, out.text) for config, out in zip(configs, outs, strict=True) if out.finish_reason == "stop"]
    assert len(ended) > 8
    assert [(config.constraint, text) for config, text in ended if not follows(config, text)] == []
