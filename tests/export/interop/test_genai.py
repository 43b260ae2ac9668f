"""onnxruntime-genai loads a bundle by its genai_config.json and generates neort's tokens with its own loop."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPTNeoForCausalLM

import neort
from checkpoints import WINDOW, Ids, edit_json, random_ids
from interop import NEW_TOKENS, Case
from neort_export.bundle.genai import genai_config

og = pytest.importorskip("onnxruntime_genai", reason="needs onnxruntime-genai")


@pytest.fixture(scope="module")
def loaded(case: Case) -> Any:
    return og.Model(str(case.bundle))


def generator(model: Any, batch: int = 1) -> Any:
    params = og.GeneratorParams(model)
    params.set_search_options(batch_size=batch)
    return og.Generator(model, params)


def generate(model: Any, *parts: list[int], count: int = NEW_TOKENS) -> list[int]:
    """Greedy tokens after a prompt, which is appended in parts."""
    one = generator(model)
    for part in parts:
        one.append_tokens(np.array(part, np.int32))
    return following(one, count)


def generate_batch(model: Any, ids: Ids) -> list[list[int]]:
    """Greedy tokens after each row of prompts [B, S]."""
    many = generator(model, len(ids))
    many.append_tokens(ids.astype(np.int32))
    columns: list[list[int]] = []
    while not many.is_done() and len(columns) < NEW_TOKENS:
        many.generate_next_token()
        columns.append(many.get_next_tokens().tolist())
    return [list(row) for row in zip(*columns, strict=True)]


def following(one: Any, count: int = NEW_TOKENS) -> list[int]:
    tokens: list[int] = []
    while not one.is_done() and len(tokens) < count:
        one.generate_next_token()
        tokens.append(int(one.get_next_tokens()[0]))
    return tokens


def test_prompts_alone_give_neort_s_tokens(case: Case, loaded: Any) -> None:
    assert case.agrees([generate(loaded, prompt) for prompt in case.prompts])


def test_logits_are_neort_s(case: Case, loaded: Any) -> None:
    for prompt, logits in zip(case.prompts, case.logits, strict=True):
        one = generator(loaded)
        one.append_tokens(np.array(prompt, np.int32))
        one.generate_next_token()
        np.testing.assert_allclose(one.get_output("logits")[0, -1], logits[-1], rtol=0, atol=case.tolerance)


def test_a_ragged_batch_gives_each_prompt_s_tokens(case: Case, loaded: Any) -> None:
    """Its prompts are padded on the right with the configured token."""
    padding = json.loads((case.bundle / "genai_config.json").read_text())["model"]["pad_token_id"]
    ids, _ = case.padded("right", padding)
    assert case.agrees(generate_batch(loaded, ids))


def test_rows_that_end_early_leave_the_others_alone(case: Case, tmp_path: Path) -> None:
    """Ended rows go on with padding until all have ended; here a token that some rows soon generate is the end."""
    ends = case.tokens[0][2]
    folder = shutil.copytree(case.bundle, tmp_path / "bundle")
    config = json.loads((folder / "genai_config.json").read_text())
    edit_json(folder / "genai_config.json", model=config["model"] | {"eos_token_id": ends})
    shortened = [row[: row.index(ends) + 1] if ends in row else row for row in case.tokens]
    assert len(set(map(len, shortened))) > 1
    rows = generate_batch(og.Model(str(folder)), case.padded("right", config["model"]["pad_token_id"])[0])
    assert [row[: len(own)] for own, row in zip(shortened, rows, strict=True)] == shortened


def test_a_prompt_in_parts_and_a_rewind_give_the_tokens_of_the_whole(case: Case, loaded: Any) -> None:
    prompt = case.prompts[-1]
    middle = len(prompt) // 2
    assert generate(loaded, prompt[:middle], prompt[middle:])[: len(case.tokens[-1])] == case.tokens[-1]
    one = generator(loaded)
    one.append_tokens(np.array(prompt, np.int32))
    following(one, 3)
    one.rewind_to(middle)
    one.append_tokens(np.array(prompt[middle:], np.int32))
    assert following(one)[: len(case.tokens[-1])] == case.tokens[-1]


def test_beams_are_those_of_transformers(fp32_bundle: Path, model: GPTNeoForCausalLM) -> None:
    ids = torch.as_tensor(random_ids(WINDOW + 3))[None]
    options = {"num_beams": 3, "max_new_tokens": 2 * WINDOW}
    expected = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, pad_token_id=0, **options)
    loaded = og.Model(str(fp32_bundle))
    params = og.GeneratorParams(loaded)
    params.set_search_options(num_beams=3, max_length=expected.shape[1])
    one = og.Generator(loaded, params)
    one.append_tokens(ids[0].numpy().astype(np.int32))
    while not one.is_done():
        one.generate_next_token()
    assert one.get_sequence(0).tolist() == expected[0].tolist()


@pytest.mark.parametrize("place", ["only token", "first", "last"])
def test_an_end_of_text_token_in_a_prompt_is_no_padding(trained_bundle: Path, place: str) -> None:
    neo = neort.load(trained_bundle)
    words = [] if place == "only token" else neo.tokenizer.encode("It was a dark night and")
    prompt = [*words, 0] if place == "last" else [0, *words]
    expected = list(neo.generate(np.array(prompt), max_new_tokens=NEW_TOKENS).token_ids)
    assert generate(og.Model(str(trained_bundle)), prompt)[: len(expected)] == expected


def test_its_tokenizer_reads_the_bundle_s(trained_bundle: Path) -> None:
    tokenizer, text = og.Tokenizer(og.Model(str(trained_bundle))), "“It was, wasn't it?” — a dark night."
    assert tokenizer.encode(text).tolist() == neort.load(trained_bundle).tokenizer.encode(text)


def test_generation_ends_at_the_model_s_last_position(case: Case, loaded: Any) -> None:
    positions = neort.load(case.bundle).bundle.spec.max_position_embeddings
    prompt = case.prompts[-1]
    assert len(generate(loaded, prompt, count=2 * positions)) <= positions - len(prompt)


def test_an_unknown_key_is_refused(fp32_bundle: Path, tmp_path: Path) -> None:
    """Why the configuration holds what onnxruntime-genai knows and nothing else."""
    folder = shutil.copytree(fp32_bundle, tmp_path / "bundle")
    edit_json(folder / "genai_config.json", neort={})
    with pytest.raises(RuntimeError, match='Unknown value "neort"'):
        og.Model(str(folder))


class Config:
    """What genai_config reads of a configuration."""

    hidden_size, num_attention_heads, num_hidden_layers, vocab_size, max_position_embeddings = 32, 4, 2, 311, 128
    bos_token_id: int | None = 7
    eos_token_id: int | None = 7
    pad_token_id: int | None = None


@pytest.mark.parametrize(
    ("eos", "ends"), [(7, [7]), ([7, 8], [7, 8]), (None, [310]), (50256, [310]), ([7, 50256], [7])], ids=str
)
def test_ends_of_text_are_those_that_the_model_can_generate(eos: Any, ends: list[int]) -> None:
    assert genai_config(Config, {"eos_token_id": eos}, "model.onnx")["model"]["eos_token_id"] == ends


@pytest.mark.parametrize(("pad", "expected"), [(None, -1), (7, -1), (9, 9), (50256, -1), (-1, -1)])
def test_padding_is_a_token_of_its_own(pad: int | None, expected: int) -> None:
    config = type("Padded", (Config,), {"pad_token_id": pad})
    assert genai_config(config, {"eos_token_id": 7}, "model.onnx")["model"]["pad_token_id"] == expected


def test_a_beginning_that_the_checkpoint_lacks_is_left_out() -> None:
    config = type("Headless", (Config,), {"bos_token_id": None})
    assert "bos_token_id" not in genai_config(config, {}, "model.onnx")["model"]
