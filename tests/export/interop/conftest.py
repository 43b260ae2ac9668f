"""Bundles, prompts around and past the attention window, and what neort makes of them: others must do the same."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import neort
from interop import EXAMPLES, NEW_TOKENS, Case, Install, run, texts_for
from neort_export import Report, export
from patience import PATIENCE


@pytest.fixture(scope="session", params=["fp32", "int8", "trained int8", "gpt2"])
def case(request: pytest.FixtureRequest) -> Case:
    if request.param == "trained int8":
        bundle: Path = request.getfixturevalue("trained_bundle")
    elif request.param == "int8":
        bundle = request.getfixturevalue("int8_report").path
    elif request.param == "gpt2":
        bundle = request.getfixturevalue("gpt2_exports")("fp32").path
    else:
        bundle = request.getfixturevalue("fp32_bundle")
    model = neort.load(bundle)
    texts = texts_for(model, trained=request.param == "trained int8")
    prompts = [model.tokenizer.encode(text) for text in texts]
    tokens = [list(model.generate(np.array(prompt), max_new_tokens=NEW_TOKENS).token_ids) for prompt in prompts]
    assert any(len(set(own)) > 3 for own in tokens)
    return Case(bundle, texts, prompts, tokens, [model.logits(prompt) for prompt in prompts])


@pytest.fixture(scope="session")
def trained_bundle(neo_mini: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    report: Report = export(neo_mini, tmp_path_factory.mktemp("trained") / "bundle")
    return report.path


@pytest.fixture(scope="session")
def npm() -> str:
    """The path of npm, where node is installed and the registry answers."""
    path = shutil.which("npm")
    if path is None or shutil.which("node") is None:
        pytest.skip("needs node and npm")
    if platform.system() == "Darwin" and platform.machine() == "x86_64":
        pytest.skip("onnxruntime-node has no binaries for Intel Macs")
    if subprocess.run([path, "ping"], capture_output=True, check=False, timeout=PATIENCE).returncode:
        pytest.skip("needs the npm registry: npm ping fails")
    return path


@pytest.fixture(scope="session")
def installed(npm: str, tmp_path_factory: pytest.TempPathFactory) -> Install:
    """Installs a folder of examples somewhere else, once, and returns the place."""
    places: dict[str, Path] = {}

    def install(name: str) -> Path:
        if name not in places:
            folder = tmp_path_factory.mktemp("examples") / name
            shutil.copytree(EXAMPLES / name, folder, ignore=shutil.ignore_patterns("node_modules"))
            done = run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], folder)
            assert done.returncode == 0, done.stderr
            places[name] = folder
        return places[name]

    return install
