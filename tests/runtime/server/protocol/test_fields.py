"""Fields check what their JSON Schema describes, and nothing else."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from neort.generation.config import OPTIONS
from neort.server.protocol import RequestError
from neort.server.protocol.fields import fields_of, read, schema_of
from neort.server.protocol.kinds import Array
from neort.server.protocol.requests import REQUESTS
from neort.server.protocol.requests.common import TOKEN

BOUNDS = {"max_prompts": 3, "max_choices": 4, "max_logprobs": 5, "max_tokens": 50, "largest_id": 99}
LEAVES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 5, 6, 50, 51, 99, 100, 2.0, 2.5, -2.0, 1e300, 10**30, "", "a", "text", "float",
    "stop", "save", "json_object", "user", "a b", "x" * 300, [], {}, [1], ["a"], [1, "a"], ["a", [1]], [[1]], [[]],
    [None], {"12": 5}, {"12": 500}, {"a": 1}, {"01": 1}, {"include_usage": True}, {"type": "text"}, {"type": "x"},
    {"regex": "a"}, {"role": "user", "content": "a"}, [{"role": "user", "content": "a"}],
    [{"role": "user", "content": [{"type": "text"}]}], "x" * 1001, ["a"] * 20, ["a"] * 65, ["x" * 101],
]  # fmt: skip
MINIMAL: dict[str, dict[str, Any]] = {
    "CompletionRequest": {"prompt": "a"},
    "ChatCompletionRequest": {"messages": [{"role": "user", "content": "a"}]},
    "EmbeddingRequest": {"input": "a"},
    "PrefixRequest": {"action": "load", "filename": "a"},
    "TokenizeRequest": {"prompt": "a"},
    "DetokenizeRequest": {"tokens": [1]},
}


def is_read(name: str, payload: object) -> bool:
    try:
        read(REQUESTS[name], payload, BOUNDS)
    except RequestError as error:
        return error.status != 400 or len(error.message) > 1500
    return True


@pytest.fixture(params=REQUESTS)
def name(request: pytest.FixtureRequest) -> str:
    each: str = request.param
    return each


@pytest.fixture
def fits(name: str) -> Callable[[object], bool]:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(schema_of(REQUESTS[name], BOUNDS))
    return lambda payload: bool(validator.is_valid(payload))


def test_each_value_of_each_field_is_read_if_it_fits_the_schema(name: str, fits: Callable[[object], bool]) -> None:
    for field in [*schema_of(REQUESTS[name], BOUNDS)["properties"], "nothing"]:
        for value in LEAVES:
            payload = {**MINIMAL[name], field: value}
            assert is_read(name, payload) == fits(payload), payload


def test_random_payloads_are_read_if_they_fit_the_schema(name: str, fits: Callable[[object], bool]) -> None:
    rng = random.Random(name)
    fields = list(schema_of(REQUESTS[name], BOUNDS)["properties"])
    for _ in range(300):
        payload = {**MINIMAL[name], **{rng.choice(fields): rng.choice(LEAVES) for _ in range(rng.randint(0, 4))}}
        assert is_read(name, payload) == fits(payload), payload
    for value in LEAVES:
        assert is_read(name, value) == fits(value), value


def test_what_stands_for_an_option_is_one(name: str) -> None:
    for field in fields_of(REQUESTS[name]).values():
        assert field.option is None or field.option in OPTIONS


def test_null_is_as_good_as_nothing(name: str) -> None:
    minimal: object = read(REQUESTS[name], MINIMAL[name], BOUNDS)
    nulls = dict.fromkeys(schema_of(REQUESTS[name], BOUNDS)["properties"])
    assert read(REQUESTS[name], {**nulls, **MINIMAL[name]}, BOUNDS) == minimal


@pytest.mark.parametrize(
    "values", [[1, 2.0, 99], [0], [1, True], [1, "a"], [1, -1], [100], [1, 2.5], [1, 10**30], [None]]
)
def test_ids_in_a_list_are_read_as_one_by_one(values: list[Any]) -> None:
    def told(check: Callable[[], Any]) -> Any:
        try:
            return check()
        except RequestError as error:
            return error.message, error.param

    found = told(lambda: Array(TOKEN).check("tokens", values, BOUNDS))
    assert found == told(lambda: [TOKEN.check(f"tokens[{i}]", value, BOUNDS) for i, value in enumerate(values)])
    assert isinstance(found, tuple) or all(type(each) is int for each in found)
