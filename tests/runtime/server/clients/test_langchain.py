"""LangChain's classes for OpenAI: texts, streams and vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import neort
from served import Served

langchain_openai = pytest.importorskip("langchain_openai")
pytestmark = pytest.mark.filterwarnings("ignore")  # what other projects warn of is theirs

PROMPT = "It was a dark night and"


@pytest.fixture(scope="module")
def llm(server: Served) -> Any:
    return langchain_openai.OpenAI(
        base_url=server.base_url, api_key="none", model=server.model, temperature=0, max_tokens=10, max_retries=0
    )


def test_a_text_is_the_models(llm: Any, model: neort.Model) -> None:
    assert llm.invoke(PROMPT) == model.generate(PROMPT, max_new_tokens=10).text


def test_a_batch_is_each_prompts_text(llm: Any, model: neort.Model) -> None:
    prompts = [PROMPT, "The captain", "Once upon a time"]
    assert llm.batch(prompts) == [model.generate(prompt, max_new_tokens=10).text for prompt in prompts]


def test_a_stream_is_the_whole_text(llm: Any, model: neort.Model) -> None:
    pieces = list(llm.stream(PROMPT))
    assert len(pieces) > 1
    assert "".join(pieces) == model.generate(PROMPT, max_new_tokens=10).text


def test_stop_words_end_the_text(llm: Any, model: neort.Model) -> None:
    expected = model.generate(PROMPT, max_new_tokens=10, stop_strings=[" the"]).text
    assert llm.invoke(PROMPT, stop=[" the"]) == expected


def test_vectors_are_the_models(server: Served, model: neort.Model) -> None:
    """The texts go as they are: ids of OpenAI's own tokenizers mean nothing to other models."""
    embeddings = langchain_openai.OpenAIEmbeddings(
        base_url=server.base_url, api_key="none", model=server.model, check_embedding_ctx_length=False
    )
    found = embeddings.embed_documents([PROMPT, "a"])
    np.testing.assert_allclose(np.asarray(found, np.float32), model.embed([PROMPT, "a"], normalize=True), rtol=1e-6)
