"""The C++ example: neort's own tokens, from the library that comes with onnxruntime for Python."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import neort
from example_files import EXAMPLES
from folders import ROOT
from patience import PATIENCE

HEADER = "onnxruntime_cxx_api.h"
PLACES = [os.environ.get("ONNXRUNTIME_INCLUDE", ""), "/usr/include/onnxruntime", "/usr/local/include/onnxruntime"]
TEXT = ROOT / "export/neort_export/verification/texts/verification.txt"
NEW_TOKENS = 24


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The compiled example, linked with the library in the installed package, which is called as its version is."""
    headers = next((place for place in PLACES if place and (Path(place) / HEADER).is_file()), None)
    if headers is None:
        pytest.skip(f"needs {HEADER} (Debian 13: libonnxruntime-dev), in a folder that ONNXRUNTIME_INCLUDE names")
    compiler = shutil.which("c++")
    library = next((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"), None)
    if compiler is None or library is None:
        pytest.skip("needs a compiler, c++, and onnxruntime's package for Linux, which has its library")
    folder = tmp_path_factory.mktemp("cpp")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / name).symlink_to(library)
    source, result = EXAMPLES / "cpp" / "generate.cpp", folder / "generate"
    command = [compiler, "-std=c++17", "-O0", "-Wall", "-Wextra", "-Werror", source, "-isystem", headers, "-o", result]
    done = subprocess.run(
        [*map(str, command), f"-L{folder}", "-lonnxruntime", f"-Wl,-rpath,{folder}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return [str(result)]


def run(command: list[str], prompts: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, input=prompts, capture_output=True, text=True, check=False, timeout=PATIENCE)


def test_prompts_around_the_window_give_neort_s_tokens(
    program: list[str], bundle_path: Path, model: neort.Model
) -> None:
    ids = model.tokenizer.encode(TEXT.read_text(encoding="utf-8"))
    window = model.bundle.spec.window_size
    lengths = [5, window - 10, window, window + 1, 2 * window - 10, model.bundle.spec.max_position_embeddings - 3]
    prompts = [ids[7 * n : 8 * n] for n in lengths]
    done = run([*program, str(bundle_path), str(NEW_TOKENS)], "".join(f"{' '.join(map(str, p))}\n" for p in prompts))
    assert done.returncode == 0, done.stderr
    expected = [
        model.generate(np.array(p), max_new_tokens=NEW_TOKENS, do_sample=False, overflow="stop").token_ids
        for p in prompts
    ]
    assert [list(map(int, line.split())) for line in done.stdout.splitlines()] == list(map(list, expected))


@pytest.mark.parametrize(
    ("bundle", "line", "told"), [("/nowhere", "1 2\n", "/nowhere/model.onnx"), (None, "\n", "no token ids")]
)
def test_what_cannot_be_done_is_said(
    program: list[str], bundle_path: Path, bundle: str | None, line: str, told: str
) -> None:
    done = run([*program, bundle or str(bundle_path), "4"], line)
    assert (done.returncode, done.stdout) == (1, "")
    assert told in done.stderr
