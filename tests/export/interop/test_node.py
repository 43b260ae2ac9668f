"""The examples for Node.js, with onnxruntime-node and with transformers.js, generate neort's tokens."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import neort
from interop import EXAMPLES, NEW_TOKENS, Case, Install, Program, program


@pytest.fixture(scope="module")
def node(installed: Install) -> Program:
    return program(installed("node") / "generate.mjs")


@pytest.fixture(scope="module")
def transformers_js(installed: Install) -> Program:
    return program(installed("transformers.js") / "generate.mjs")


def test_the_node_example_gives_neort_s_tokens_and_logits(case: Case, node: Program, tmp_path: Path) -> None:
    requests = [{"prompt": prompt, "max_new_tokens": NEW_TOKENS} for prompt in case.prompts]
    (tmp_path / "requests.json").write_text(json.dumps(requests))
    results = node(case.bundle, "--requests", tmp_path / "requests.json", "--logits")
    assert [result["token_ids"] for result in results] == case.tokens
    for result, logits in zip(results, case.logits, strict=True):
        np.testing.assert_allclose(result["first_logits"], logits[-1], rtol=0, atol=case.tolerance)


def test_the_node_example_takes_token_ids_as_arguments(case: Case, node: Program) -> None:
    (result,) = node(case.bundle, "--max-new-tokens", 7, *case.prompts[0])
    assert result == {"token_ids": case.tokens[0][:7]}


def test_transformers_js_gives_neort_s_tokens_for_a_batch_of_texts(case: Case, transformers_js: Program) -> None:
    results = transformers_js(case.bundle, "--max-new-tokens", NEW_TOKENS, *case.texts)
    assert [result["prompt_ids"] for result in results] == case.prompts
    assert case.agrees([result["token_ids"] for result in results])


def test_transformers_js_gives_neort_s_text(trained_bundle: Path, transformers_js: Program) -> None:
    prompt = "It was a dark night and"
    (result,) = transformers_js(trained_bundle, "--max-new-tokens", NEW_TOKENS, prompt)
    assert result["text"] == neort.load(trained_bundle).generate(prompt, max_new_tokens=NEW_TOKENS).text


@pytest.mark.parametrize("name", ["browser", "node", "transformers.js"])
def test_lock_files_name_no_registry(name: str) -> None:
    """They install from whatever registry npm is set to."""
    packages = json.loads((EXAMPLES / name / "package-lock.json").read_text())["packages"]
    assert not [path for path, package in packages.items() if "resolved" in package]
