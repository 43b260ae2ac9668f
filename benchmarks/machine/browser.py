"""How fast is the bundled model in a page, beside neort on the same machine?

    npm ci --prefix examples/browser
    python -m benchmarks.machine.browser [--rounds 5] [--bundle BUNDLE]

Needs playwright and a Chromium (docs/playground.md). neort with 1 and 2 threads and the page's worker with 1 and 2
threads are loaded side by side and generate in turns, greedily, from prompts that no round before had; one round warms
up. Writes results/browser.json: medians and raw times of tokens per second after short and long prompts, tokens of a
prompt per second, seconds from opening the page, or loading the model, until it can be used, and how many tokens were
neort's before the first that was not.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import shutil
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import neort
import neort_models

from ..harness.arguments import script_parser
from ..harness.files import ROOT
from ..harness.results import write_results

EXAMPLE = ROOT / "examples" / "browser"
TEXT = ROOT / "LICENSE"
RUNTIME = EXAMPLE / "node_modules" / "onnxruntime-web" / "package.json"
THREADS = {"1 thread": 1, "2 threads": 2}
PROMPTS = (32, 512)
NEW_TOKENS = 64
QUIET = ["--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-component-update"]
GREEDY = {"do_sample": False}

Ask = Callable[[list[int]], dict[str, Any]]  # a prompt to its ids, promptSeconds and textSeconds

LOAD = """(threads) => new Promise((resolve, reject) => {
    window.worker = new Worker("worker.js", { type: "module" });
    worker.onmessage = ({ data }) => {
        if (data.type === "failed") reject(new Error(data.sentence));
        if (data.type === "ready") resolve();
    };
    worker.postMessage({ type: "load", threads });
})"""
GENERATE = """(request) => new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => {
        if (data.type === "failed") reject(new Error(data.sentence));
        if (data.type === "done") resolve(data);
    };
    worker.postMessage({ type: "generate", ...request });
})"""


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("--bundle", type=Path, default=neort_models.bundled())
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def run(args: argparse.Namespace) -> dict[str, Any]:
    texts, rounds = prompts(args.bundle, args.rounds + 1), range(args.rounds)
    with browser() as chromium, served(args.bundle) as address:
        starts = {
            **{f"neort, {name}": [loading(args.bundle, n) for _ in rounds] for name, n in THREADS.items()},
            **{f"page, {name}": [opening(chromium, address, n) for _ in rounds] for name, n in THREADS.items()},
        }
        systems = {f"neort, {name}": native(args.bundle, n) for name, n in THREADS.items()}
        systems |= {f"page, {name}": in_page(chromium, address, n) for name, n in THREADS.items()}
        rates = {length: take_turns(systems, each) for length, each in texts.items()}
        version = chromium.version
    return {
        "bundle": args.bundle.resolve().name,
        "browser": f"Chromium {version}",
        "onnxruntime_web": json.loads(RUNTIME.read_text(encoding="utf-8"))["version"],
        "new_tokens": NEW_TOKENS,
        "start_seconds": {name: statistics.median(values) for name, values in starts.items()},
        "prompts": rates,
        "starts": starts,
    }


def prompts(bundle: Path, count: int) -> dict[int, list[list[int]]]:
    """By length as many prompts, each from another place of the text."""
    ids = neort.load(bundle, num_threads=1).tokenizer.encode(TEXT.read_text(encoding="utf-8"))
    return {length: [ids[37 * i : 37 * i + length] for i in range(count)] for length in PROMPTS}


def take_turns(systems: dict[str, Ask], texts: list[list[int]]) -> dict[str, Any]:
    """Medians and raw rates of every system; ``equal`` counts tokens before the first that is not neort's."""
    rows: dict[str, dict[str, list[float]]] = {name: {"prompt": [], "text": [], "equal": []} for name in systems}
    for i, prompt in enumerate(texts):
        names = list(systems)[i % len(systems) :] + list(systems)[: i % len(systems)]
        answers = {name: systems[name](prompt) for name in names}
        expected = answers[next(iter(systems))]["ids"]
        for name, answer in answers.items() if i else ():  # the first round warms up
            rows[name]["prompt"].append(len(prompt) / answer["promptSeconds"])
            rows[name]["text"].append((len(answer["ids"]) - 1) / answer["textSeconds"])
            rows[name]["equal"].append(equal(expected, answer["ids"]))
            print(f"{len(prompt)} {name}: {rows[name]['text'][-1]:.1f} tokens/s", flush=True)
    return {
        name: {"prompt_rate": statistics.median(row["prompt"]), "text_rate": statistics.median(row["text"]), "raw": row}
        for name, row in rows.items()
    }


def equal(expected: list[int], ids: list[int]) -> int:
    """How many tokens are those of neort before the first that differs."""
    return next((i for i, pair in enumerate(zip(expected, ids, strict=False)) if pair[0] != pair[1]), len(expected))


def native(bundle: Path, threads: int) -> Ask:
    """The same work for neort."""
    model = neort.load(bundle, num_threads=threads)

    def ask(prompt: list[int]) -> dict[str, Any]:
        options: dict[str, Any] = {"do_sample": False, "repetition_penalty": 1.0, "ignore_eos": True}
        output = model.generate(prompt, max_new_tokens=NEW_TOKENS, **options)
        stats = output.stats
        return {
            "ids": list(output.token_ids),
            "promptSeconds": stats.time_to_first_token,
            "textSeconds": stats.decode_seconds,
        }

    return ask


def in_page(chromium: Any, address: str, threads: int) -> Ask:
    """The page's worker, without the page."""
    page = chromium.new_context().new_page()
    page.goto(f"{address}page.css")  # a document of the same origin that loads nothing
    page.evaluate(LOAD, threads)
    return lambda prompt: page.evaluate(GENERATE, {"prompt": prompt, "options": GREEDY, "maxNewTokens": NEW_TOKENS})


def loading(bundle: Path, threads: int) -> float:
    """Seconds until a loaded model can be used."""
    began = time.perf_counter()
    neort.load(bundle, num_threads=threads)
    return time.perf_counter() - began


def opening(chromium: Any, address: str, threads: int) -> float:
    """Seconds from an address, in a browser that knows nothing of it, until the page can be used."""
    context = chromium.new_context()
    page = context.new_page()
    began = time.perf_counter()
    page.goto(f"{address}?threads={threads}")
    page.wait_for_selector("#generate:enabled")
    took = time.perf_counter() - began
    context.close()
    return took


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    path = os.environ.get("NEORT_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    unconfined = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=[*QUIET, *unconfined])
        yield chromium
        chromium.close()


@contextlib.contextmanager
def served(bundle: Path) -> Iterator[str]:
    """The address of the example's own server."""
    spec = importlib.util.spec_from_file_location("serve", EXAMPLE / "serve.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError(EXAMPLE / "serve.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.serve(bundle) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def main() -> None:
    write_results("browser", run(parse_args()))


if __name__ == "__main__":
    main()
