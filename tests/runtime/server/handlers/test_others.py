"""Embeddings, tokens, models and prefixes."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neort
from handler_calls import answer, run
from neort.server.handlers import Handlers, Limits, ServedModel
from neort.server.protocol import RequestError

Ask = Callable[..., Any]


@pytest.mark.parametrize("texts", ["A text", [7, 8], ["A text", "Another, longer text"], [[7, 8], "A text"]], ids=repr)
def test_embeddings_are_those_of_embed_one_long(model: neort.Model, ask: Ask, texts: Any) -> None:
    body = ask("embeddings", {"input": texts})
    each = texts if isinstance(texts, list) and not isinstance(texts[0], int) else [texts]
    expected = model.embed(each, normalize=True)
    vectors = [entry["embedding"] for entry in body["data"]]
    assert np.array_equal(np.array(vectors, np.float32), expected)
    assert [entry["index"] for entry in body["data"]] == list(range(len(each)))
    tokens = sum(len(model.tokenizer.encode(text)) if isinstance(text, str) else len(text) for text in each)
    assert body["usage"]["prompt_tokens"] == body["usage"]["total_tokens"] == tokens


def test_base64_holds_the_same_floats(ask: Ask) -> None:
    numbers = ask("embeddings", {"input": "A text"})["data"][0]["embedding"]
    coded = ask("embeddings", {"input": "A text", "encoding_format": "base64"})["data"][0]["embedding"]
    assert np.frombuffer(base64.b64decode(coded), "<f4").tolist() == numbers


def test_long_texts_are_cut_where_that_is_asked_for(model: neort.Model, ask: Ask, refused: Any) -> None:
    text = list(range(1, 600))
    assert "positions" in refused("embeddings", {"input": text}).message
    for kept, truncate in ((5, 5), (model.spec.max_position_embeddings, -1)):
        body = ask("embeddings", {"input": text, "truncate_prompt_tokens": truncate})
        assert np.array_equal(np.float32(body["data"][0]["embedding"]), model.embed(text[-kept:], normalize=True))


def test_dimensions_are_refused(refused: Any) -> None:
    error = refused("embeddings", {"input": "A text", "dimensions": 64})
    assert (error.status, error.param) == (400, "dimensions")


def test_texts_become_tokens_and_tokens_texts(model: neort.Model, ask: Ask) -> None:
    text = "caf\u00e9 <|endoftext|> \U0001f600"
    body = ask("tokenize", {"prompt": text, "return_token_strs": True})
    assert body["tokens"] == model.tokenizer.encode(text)
    assert (body["count"], body["max_model_len"]) == (len(body["tokens"]), 512)
    assert "<|endoftext|>" in body["token_strs"]
    assert any(token.startswith("bytes:\\x") for token in body["token_strs"])
    assert ask("detokenize", {"tokens": body["tokens"]}) == {"prompt": text}
    assert ask("tokenize", {"prompt": ""})["tokens"] == []


def test_models_are_listed_and_described(ask: Ask, refused: Any) -> None:
    body = ask("models", {})
    assert [entry["id"] for entry in body["data"]] == ["mini", "other"]
    assert ask("model", {"model": "other"}) == body["data"][1]
    assert body["data"][0]["max_model_len"] == 512
    error = refused("model", {"model": "x" * 200})
    assert (error.status, error.code) == (404, "model_not_found")
    assert ask("tokenizer_info", {})["special_tokens"] == {"<|endoftext|>": 0}


def test_names_of_models_are_their_own(model: neort.Model) -> None:
    with pytest.raises(neort.ConfigError, match="a name of its own"):
        Handlers([ServedModel("a", model, 1), ServedModel("a", model, 1)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "prefixes"
    folder.mkdir()
    return folder


@pytest.fixture
def act(model: neort.Model, folder: Path) -> Callable[..., Any]:
    """Asks for a prefix to be saved, loaded or released."""
    handlers = Handlers([ServedModel("mini", model, 1)], Limits(prefix_folder=folder, max_prefixes=1))
    return lambda action, filename, **fields: run(
        answer(handlers, "prefixes", {"action": action, "filename": filename, **fields})
    )


def test_a_prefix_is_saved_loaded_and_released(act: Callable[..., Any], folder: Path) -> None:
    saved = act("save", "a.prefix", prompt="A prefix of some words")
    assert [path.name for path in folder.iterdir()] == ["a.prefix"]
    loaded = act("load", "a.prefix")
    assert (saved["held"], loaded["held"]) == (False, True)
    assert loaded["tokens"] == saved["tokens"] > 0
    assert loaded["held_bytes"] > 0
    act("load", "a.prefix")
    act("save", "b.prefix", prompt=[5, 6, 7])
    with pytest.raises(RequestError, match="as many as may") as caught:
        act("load", "b.prefix")
    assert caught.value.status == 429
    assert act("release", "a.prefix")["held"] is False
    assert act("load", "b.prefix")["tokens"] == 3


@pytest.mark.parametrize("name", ["../a", "a/b", ".a", "", "..", "a\\b", "a\0b", "/etc/passwd", "a" * 200, "a\n"])
def test_no_name_leads_out_of_the_folder(act: Callable[..., Any], name: str) -> None:
    with pytest.raises(RequestError) as caught:
        act("save", name, prompt="A prefix")
    assert (caught.value.status, caught.value.param) == (400, "filename")


def test_links_are_not_followed(act: Callable[..., Any], folder: Path, tmp_path: Path) -> None:
    (folder / "link").symlink_to(tmp_path / "outside")
    for action, fields in (("save", {"prompt": "A prefix"}), ("load", {})):
        with pytest.raises(RequestError, match="leads out"):
            act(action, "link", **fields)
    assert not (tmp_path / "outside").exists()


def test_what_is_missing_or_damaged_is_told_without_the_folder(act: Callable[..., Any], folder: Path) -> None:
    (folder / "damaged").write_bytes(b"x" * 100)
    for name, status in (("missing", 404), ("damaged", 400)):
        with pytest.raises(RequestError) as caught:
            act("load", name)
        assert caught.value.status == status
        assert str(folder) not in caught.value.message
    with pytest.raises(RequestError, match="not held"):
        act("release", "missing")
    with pytest.raises(RequestError, match="needs prompt"):
        act("save", "a")


def test_without_a_folder_there_are_no_prefixes(refused: Any) -> None:
    assert refused("prefixes", {"action": "load", "filename": "a"}).status == 404
