"""The example of a page in a headless Chromium. Skipped without playwright, a Chromium or the npm registry."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neort
from browser_example import NEO_BOOKS, NEO_MINI, POLL, server_module
from chromium import launched, refused_directive
from folders import ROOT
from interop import NEW_TOKENS, TOLERANCE, Install
from patience import PATIENCE

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: see docs/playground.md")
expect = sync_api.expect
expect.set_options(timeout=PATIENCE * 1000)

TEXT = ROOT / "export" / "neort_export" / "verification" / "texts" / "verification.txt"
PROMPT = "The first, the second, the third, the fourth, the"  # whose next tokens are clear
NEAR = 2 * TOLERANCE["int8"]  # two logits, each as far from neort's as int8 may be on another processor
BLANK = "page.css"  # a document of the same origin that loads nothing
EVIL = "<img src=x onerror=\"document.title='owned'\">"
ASK = """async ({ threads, requests }) => {
    const worker = new Worker("worker.js", { type: "module" });
    const answer = (type) => new Promise((resolve, reject) => (worker.onmessage = ({ data }) => {
        if (data.type === "failed") reject(new Error(data.sentence));
        if (data.type === type) resolve(data);
    }));
    const answers = [];
    worker.postMessage({ type: "load", threads });
    const { threads: used } = await answer("ready");
    for (const request of requests) {
        worker.postMessage({ type: "generate", ...request });
        answers.push((await answer("done")).ids);
    }
    worker.terminate();
    return { used, answers };
}"""  # the page's worker, without the page


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as browser:
        yield browser


class Site:
    """The example, served with a bundle; ``faults`` are what consoles said, ``hosts`` whom pages asked for anything."""

    def __init__(self, browser: Any, address: str) -> None:
        self.browser = browser
        self.address = address
        self.faults: list[str] = []
        self.hosts: set[str] = set()

    def open(self, query: str = "", *, ready: bool = True, **options: Any) -> Any:
        page = self.browser.new_context(**options).new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.on("pageerror", lambda fault: self.faults.append(str(fault)))
        page.on("console", lambda message: self.faults.append(message.text))
        page.on("request", lambda request: self.hosts.add(re.sub(r"(?<=\w/).*", "", request.url)))
        page.goto(self.address + query)
        if ready:
            expect(page.locator("#status")).to_have_text("Ready.")
        return page


@pytest.fixture(scope="module")
def serving(browser: Any, installed: Install) -> Callable[..., Any]:
    folder = installed("browser")

    @contextmanager
    def serving(bundle: Path, **options: Any) -> Iterator[Site]:
        with ExitStack() as stack:
            server = stack.enter_context(server_module(folder).serve(bundle, **options))
            thread = threading.Thread(target=server.serve_forever, args=[POLL])
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            site = Site(browser, f"http://127.0.0.1:{server.server_port}/")
            yield site
            for context in browser.contexts:
                context.close()
            assert site.faults == []
            assert site.hosts <= {site.address}

    return serving


@pytest.fixture
def site(serving: Callable[..., Any]) -> Iterator[Site]:
    with serving(NEO_BOOKS) as site:
        yield site


def finished(page: Any) -> None:
    expect(page.locator("#generate")).to_be_enabled()


def greedy(model: neort.Model, prompt: str) -> tuple[list[int], list[float]]:
    """neort's tokens, and by how much the logit of each was ahead of the second largest."""
    margins = []

    def note(_: object, logits: neort.arrays.Logits) -> neort.arrays.Logits:
        second, first = np.partition(logits, -2)[-2:]
        margins.append(float(first - second))
        return logits

    output = model.generate(prompt, do_sample=False, max_new_tokens=NEW_TOKENS, logits_processor=[note])
    return list(output.token_ids), margins


def prompts(model: neort.Model) -> list[str]:
    """Texts so long that they or the new tokens cross the window, or twice and three times the window."""
    ids = model.tokenizer.encode(TEXT.read_text(encoding="utf-8"))
    window = model.bundle.spec.window_size
    lengths = [5, window - 10, window, window + 1, 2 * window - 10, 3 * window + 7]
    return [model.tokenizer.decode(ids[500 * i : 500 * i + length]) for i, length in enumerate(lengths)]


@pytest.mark.parametrize(
    ("bundle", "threads"),
    [(NEO_BOOKS, 1), (NEO_BOOKS, 2), (NEO_MINI, 2)],
    ids=lambda value: getattr(value, "name", value),
)
def test_the_worker_gives_neort_s_tokens_but_for_near_ties(
    bundle: Path, threads: int, serving: Callable[..., Any]
) -> None:
    """Processors round the last bits differently, and with int8 that decides between logits that are nearly equal."""
    model = neort.load(bundle)
    texts = prompts(model)
    options = {"do_sample": False, "repetition_penalty": model.generation_config.repetition_penalty}
    requests = [{"prompt": text, "options": options, "maxNewTokens": NEW_TOKENS} for text in texts]
    with serving(bundle, isolated=threads > 1) as site:
        page = site.open(BLANK, ready=False)
        assert page.evaluate("crossOriginIsolated") == (threads > 1)
        result = page.evaluate(ASK, {"threads": threads, "requests": requests})
    assert result["used"] == threads
    same = []
    for text, ids in zip(texts, result["answers"], strict=True):
        expected, margins = greedy(model, text)
        same.append(
            next((i for i, pair in enumerate(zip(ids, expected, strict=False)) if pair[0] != pair[1]), len(ids))
        )
        assert len(ids) == same[-1] == len(expected) or margins[same[-1]] < NEAR
    assert sum(same) > 0.6 * NEW_TOKENS * len(texts)


def test_the_page_writes_neort_s_text_and_says_how_fast(site: Site) -> None:
    page = site.open()
    assert page.locator("#temperature").input_value() == "0.7"  # as in the bundle's generation_config.json
    page.uncheck("#do_sample")
    expect(page.locator("#temperature")).to_be_disabled()
    page.fill("#prompt", PROMPT)
    page.fill("#repetition_penalty", "1")
    page.fill("#max_new_tokens", "40")
    page.click("#generate")
    finished(page)
    text = neort.load(NEO_BOOKS).generate(PROMPT, max_new_tokens=40, do_sample=False, repetition_penalty=1.0).text
    assert page.locator("#output").text_content() == PROMPT + text
    assert re.fullmatch(
        r"40 tokens · [\d.]+ tokens/s · first after [\d.]+ s · length", page.locator("#figures").inner_text()
    )


def test_sampled_text_comes_piece_by_piece_until_stop_and_is_never_html(site: Site) -> None:
    page = site.open()
    page.fill("#prompt", EVIL)
    page.fill("#max_new_tokens", "5000")
    page.press("#prompt", "Control+Enter")
    expect(page.locator("#status")).to_have_text("Generating.")
    page.click("#stop")
    finished(page)
    expect(page.locator("#figures")).to_contain_text("stopped")
    expect(page.locator("#given")).to_have_text(EVIL)
    assert page.locator("main img").count() == 0
    before = page.locator("#made").text_content()
    page.fill("#max_new_tokens", "3")
    page.click("#generate")  # the worker still lives
    finished(page)
    assert page.locator("#made").text_content() != before
    expect(page.locator("#figures")).to_contain_text("3 tokens")


def test_a_text_ends_with_the_model_s_last_position_as_neort_s_does(serving: Callable[..., Any]) -> None:
    model = neort.load(NEO_MINI)
    prompt = np.arange(1, 505)
    expected = model.generate(prompt, do_sample=False, max_new_tokens=50, overflow="stop").token_ids
    assert len(expected) < 50
    request = {"prompt": prompt.tolist(), "options": {"do_sample": False}, "maxNewTokens": 50}
    with serving(NEO_MINI) as site:
        page = site.open()
        (ids,) = page.evaluate(ASK, {"threads": 1, "requests": [request]})["answers"]
        assert len(ids) == len(expected)
        page.fill("#prompt", "night " * 600)
        page.click("#generate")
        expect(page.locator("#failure")).to_contain_text("tokens, but the model 512 positions.")
        page.fill("#prompt", "")
        page.click("#generate")
        expect(page.locator("#failure")).to_contain_text("The prompt is empty")
        expect(page.locator("#generate")).to_be_enabled()


def test_a_page_that_is_not_isolated_has_one_thread(serving: Callable[..., Any]) -> None:
    with serving(NEO_MINI, isolated=False) as site:
        expect(site.open("?threads=2").locator("#model")).to_have_text("neo-mini, 1 thread")
    with serving(NEO_MINI) as site:
        expect(site.open("?threads=2").locator("#model")).to_have_text("neo-mini, 2 threads")


def test_a_bundle_that_is_not_there_is_told_in_one_sentence(serving: Callable[..., Any], tmp_path: Path) -> None:
    with serving(tmp_path) as site:
        page = site.open(ready=False)
        expect(page.locator("#failure")).to_have_text("bundle/model.onnx cannot be loaded: the server answers 404.")
        expect(page.locator("#generate")).to_be_disabled()
        site.faults = [fault for fault in site.faults if "404" not in fault]


def test_the_policy_is_in_force(serving: Callable[..., Any], tmp_path: Path) -> None:
    with serving(NEO_MINI) as site:
        page = site.open()
        assert refused_directive(page) == "script-src-elem"
        assert page.title() == "neort in a page"
        site.faults.clear()


@pytest.mark.parametrize("width", [320, 1200])
def test_nothing_is_wider_than_the_window(site: Site, width: int) -> None:
    page = site.open(viewport={"width": width, "height": 700}, color_scheme="dark")
    page.fill("#prompt", "x" * 300)
    page.fill("#max_new_tokens", "2")
    page.click("#generate")
    finished(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
