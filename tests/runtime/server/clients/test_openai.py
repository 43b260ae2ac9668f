"""OpenAI's own client: each text is the one that the model gives in this process, and errors are its own classes."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import neort
from served import Served

openai = pytest.importorskip("openai")
pytestmark = pytest.mark.filterwarnings("ignore")  # what other projects warn of is theirs

PROMPT = "It was a dark night and"
SAMPLING: dict[str, Any] = {"temperature": 0.8, "top_p": 0.9, "seed": 7}


@pytest.fixture(scope="module")
def client(server: Served) -> Iterator[Any]:
    with openai.OpenAI(base_url=server.base_url, api_key="none", max_retries=0) as client:
        yield client


def test_a_text_is_the_models_and_its_usage_is_counted(client: Any, server: Served, model: neort.Model) -> None:
    found = client.completions.create(model=server.model, prompt=PROMPT, max_tokens=12, temperature=0)
    expected = model.generate(PROMPT, max_new_tokens=12)
    assert found.choices[0].text == expected.text
    assert found.choices[0].finish_reason == "length"
    assert found.usage.completion_tokens == len(expected.token_ids)
    assert found.usage.prompt_tokens == len(model.tokenizer.encode(PROMPT))


def test_choices_of_a_seed_are_the_models(client: Any, server: Served, model: neort.Model) -> None:
    found = client.completions.create(model=server.model, prompt=PROMPT, max_tokens=8, n=3, **SAMPLING)
    expected = model.generate(PROMPT, max_new_tokens=8, num_return_sequences=3, do_sample=True, top_k=None, **SAMPLING)
    assert [choice.text for choice in found.choices] == [each.text for each in expected]


def test_a_stream_is_the_whole_text_and_ends_with_its_usage(client: Any, server: Served, model: neort.Model) -> None:
    options = {"include_usage": True}
    with client.completions.create(
        model=server.model, prompt=PROMPT, max_tokens=12, temperature=0, stream=True, stream_options=options
    ) as stream:
        chunks = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == model.generate(PROMPT, max_new_tokens=12).text
    assert (chunks[-1].choices, chunks[-1].usage.completion_tokens) == ([], 12)


def test_many_at_once_get_what_each_gets_alone(server: Served, model: neort.Model) -> None:
    prompts = [f"{PROMPT} number {i}" for i in range(12)]

    async def ask() -> list[str]:
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key="none", max_retries=0) as client:

            async def one(prompt: str, stream: bool) -> str:
                options = {"model": server.model, "prompt": prompt, "max_tokens": 8, "temperature": 0}
                if not stream:
                    return str((await client.completions.create(**options)).choices[0].text)
                return "".join(
                    [c.choices[0].text async for c in await client.completions.create(stream=True, **options)]
                )

            return await asyncio.gather(*(one(prompt, i % 2 == 0) for i, prompt in enumerate(prompts)))

    assert asyncio.run(ask()) == [model.generate(prompt, max_new_tokens=8).text for prompt in prompts]


def test_a_stream_may_be_closed_in_its_middle(client: Any, server: Served) -> None:
    with client.completions.create(model=server.model, prompt=PROMPT, max_tokens=400, stream=True) as stream:
        next(iter(stream))
    assert client.completions.create(model=server.model, prompt=PROMPT, max_tokens=1).choices


def test_a_raw_response_has_fields_and_the_parsed_answer(client: Any, server: Served) -> None:
    raw = client.completions.with_raw_response.create(model=server.model, prompt=PROMPT, max_tokens=1)
    assert raw.status_code == 200
    assert raw.headers["content-type"].startswith("application/json")
    assert raw.parse().object == "text_completion"


def test_models_are_listed_and_found(client: Any, server: Served) -> None:
    assert [each.id for each in client.models.list()] == [server.model]
    assert client.models.retrieve(server.model).id == server.model


@pytest.mark.parametrize("encoding", ["float", "base64", None])
def test_vectors_are_the_models_in_either_encoding(
    client: Any, server: Served, model: neort.Model, encoding: str | None
) -> None:
    """None leaves the choice to the client, which asks for base64 and decodes it."""
    options = {} if encoding is None else {"encoding_format": encoding}
    found = client.embeddings.create(model=server.model, input=[PROMPT, "a"], **options)
    expected = model.embed([PROMPT, "a"], normalize=True)
    for each, vector in zip(found.data, expected, strict=True):
        values = each.embedding
        if isinstance(values, str):
            values = np.frombuffer(base64.b64decode(values), "<f4")
        np.testing.assert_allclose(np.asarray(values, np.float32), vector, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "error", "param"),
    [
        ({"temperature": -1}, "BadRequestError", "temperature"),
        ({"max_tokens": "ten"}, "BadRequestError", "max_tokens"),
        ({"extra_body": {"max_tokenz": 3}}, "BadRequestError", "max_tokenz"),
        ({"model": "another"}, "NotFoundError", "model"),
        ({"prompt": "a " * 2000, "max_tokens": 8}, "BadRequestError", None),
        ({"suffix": "the end"}, "BadRequestError", "suffix"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_is_an_exception_of_its_own_that_names_the_field(
    client: Any, server: Served, options: dict[str, Any], error: str, param: str | None, stream: bool
) -> None:
    with pytest.raises(getattr(openai, error)) as raised:
        client.completions.create(**{"model": server.model, "prompt": "a", "stream": stream} | options)
    assert raised.value.body["message"]
    assert param is None or raised.value.body["param"] == param


def test_json_fits_its_schema(client: Any, server: Served) -> None:
    pytest.importorskip("llguidance")
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": schema}}
    found = client.completions.create(
        model=server.model, prompt="The boy: ", max_tokens=60, temperature=0, extra_body={"response_format": form}
    )
    assert found.choices[0].finish_reason == "length" or isinstance(json.loads(found.choices[0].text)["age"], int)
