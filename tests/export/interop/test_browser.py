"""The example of a page, without a browser: its modules in Node.js, which generate neort's tokens, and its server."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neort
from browser_example import NEO_MINI, POLL, server_module
from interop import EXAMPLES, NEW_TOKENS, Case, Install, Program, program
from neort.generation import GenerationConfig, softmax
from neort.generation.processors import build_processors

FOLDER = EXAMPLES / "browser"
VOCABULARY = 200
GREEDY = {"do_sample": False}
SETTINGS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.2},
    {"temperature": 1.5, "top_k": None, "top_p": 0.5},
    {"top_k": 3, "repetition_penalty": 0.8},
    {"top_k": 0, "top_p": 1.0},
    {"top_p": 0.0},
]
TEXTS = [
    "It was a dark night, and the old house didn't stand there any more.",
    " leading,  double   and trailing spaces \t\n\n\r\n ",
    "¿Qué? Äpfel — naïve “quotes” … 1,234.50 €",
    "日本語 русский العربية 🦄👩‍👩‍👧 e\u0301 \u00a0\u2028\ufeff",
    "<|endoftext|>a special token<|endoftext|>",
    "\ufffd\x00\x7f",
    "'s 'LL 're we'll\u2019ve 2nd x²",
    "",
]


@pytest.fixture(scope="module")
def modules(installed: Install) -> Program:
    return program(Path(shutil.copy(Path(__file__).with_name("browser.mjs"), installed("browser"))))


def written(folder: Path, content: object) -> Path:
    file = folder / "requests.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def test_the_model_gives_neort_s_tokens_and_logits(case: Case, modules: Program, tmp_path: Path) -> None:
    requests = [{"prompt": prompt, "max_new_tokens": NEW_TOKENS, "options": GREEDY} for prompt in case.prompts]
    results = modules("generate", case.bundle, written(tmp_path, requests))
    assert [result["token_ids"] for result in results] == case.tokens
    for result, logits in zip(results, case.logits, strict=True):
        np.testing.assert_allclose(result["first_logits"], logits[-1], rtol=0, atol=case.tolerance)


def test_sampling_draws_from_neort_s_probabilities(modules: Program, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    cases = [
        {
            "logits": random.normal(0, 3, VOCABULARY).astype(np.float32).tolist(),
            "ids": random.integers(0, VOCABULARY, 30).tolist(),
            "options": {"do_sample": True, **options},
            "points": [0.0, 0.5, 1 - 2**-53],
        }
        for options in SETTINGS
    ]
    for case, result in zip(cases, modules("probable", written(tmp_path, cases)), strict=True):
        logits, ids = np.array(case["logits"], np.float32), np.array(case["ids"])
        for processor in build_processors(GenerationConfig(**case["options"]), len(ids)):
            logits = processor(ids, logits)
        expected = softmax(logits)
        tokens, probabilities = zip(*result["probable"], strict=True)
        assert set(tokens) == set(np.flatnonzero(expected)), case["options"]
        np.testing.assert_allclose(probabilities, expected[list(tokens)], rtol=1e-5)
        assert list(probabilities) == sorted(probabilities, reverse=True)
        middle = int(np.searchsorted(np.cumsum(probabilities), 0.5, side="right"))
        assert result["drawn"] == [tokens[0], tokens[middle], tokens[-1]]


def test_text_becomes_neort_s_tokens_and_comes_back_in_whole_characters(modules: Program, tmp_path: Path) -> None:
    tokenizer = neort.load(NEO_MINI).tokenizer
    for text, result in zip(TEXTS, modules("texts", NEO_MINI, written(tmp_path, TEXTS)), strict=True):
        assert result["ids"] == tokenizer.encode(text)
        assert "".join(result["pieces"]) == tokenizer.decode(result["ids"]) == text.replace("<|endoftext|>", "")
        assert all("\ufffd" not in piece for piece in result["pieces"]) or "\ufffd" in text


@contextmanager
def answering(bundle: Path, **options: Any) -> Iterator[http.client.HTTPConnection]:
    """A connection to the example's server."""
    with server_module(FOLDER).serve(bundle, **options) as server:
        thread = threading.Thread(target=server.serve_forever, args=[POLL])
        thread.start()
        try:
            yield http.client.HTTPConnection("127.0.0.1", server.server_port)
        finally:
            server.shutdown()
            thread.join()


def answer(connection: http.client.HTTPConnection, path: str) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, response.headers, response.read()


def test_the_server_sends_the_page_the_bundle_and_nothing_else() -> None:
    with answering(NEO_MINI) as connection:
        for path, file, media_type in [
            ("/", FOLDER / "index.html", "text/html; charset=utf-8"),
            ("/worker.js", FOLDER / "worker.js", "text/javascript; charset=utf-8"),
            ("/bundle/model.onnx", NEO_MINI / "model.onnx", "application/octet-stream"),
            ("/bundle/manifest.json?again", NEO_MINI / "manifest.json", "application/json"),
        ]:
            status, headers, content = answer(connection, path)
            assert (status, headers["Content-Type"], content) == (200, media_type, file.read_bytes())
        outside = [
            "/bundle/",
            "/bundle/..",
            "/bundle/../../interop.py",
            "/../node/generate.mjs",
            "/%2e%2e/node/package.json",
        ]
        assert {answer(connection, path)[0] for path in outside} == {404}


@pytest.mark.parametrize("isolated", [True, False])
def test_every_answer_has_the_policy_and_those_of_an_isolated_page_the_headers(isolated: bool) -> None:
    serve = server_module(FOLDER)
    with answering(NEO_MINI, isolated=isolated) as connection:
        for path in ("/", "/worker.js", "/bundle/weights.data", "/missing"):
            _, headers, _ = answer(connection, path)
            expected = serve.ALWAYS | {name: value if isolated else None for name, value in serve.ISOLATION.items()}
            assert {name: headers.get(name) for name in expected} == expected


def test_the_page_itself_has_the_server_s_policy() -> None:
    text = (FOLDER / "index.html").read_text(encoding="utf-8")
    found = re.search(r'http-equiv="Content-Security-Policy" content="(.*?)"', text)
    assert found is not None
    assert f"{found[1]}; frame-ancestors 'none'" == server_module(FOLDER).CONTENT_SECURITY_POLICY


def test_the_page_s_files_name_no_other_host_and_make_no_html_of_text() -> None:
    hosts, markup = r"https?://|[\"'(]//", r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\("
    for file in [*FOLDER.glob("*.js"), FOLDER / "index.html", FOLDER / "page.css"]:
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert re.findall(f"{hosts}|{markup}|<style| style=| on\\w+=|<script(?! type=.module. src=)", text) == []
