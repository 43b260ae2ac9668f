"""What `import neort` loads, starts and leaves alone; each in a fresh interpreter."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import subprocess
import sys
from typing import Any

import pytest

import neort
from missing import blocking
from patience import PATIENCE
from releases import QUIET, SATURATES

HEAVY = ["torch", "transformers", "onnx", "onnx_ir", "onnxscript", "optimum", "tokenizers", "safetensors"]

BLOCK = blocking(*HEAVY)


def python(program: str, **environment: str | None) -> Any:
    """Run a program that prints one JSON value, in an interpreter of its own; None removes a variable."""
    merged = {**os.environ, **environment}
    done = subprocess.run(
        [sys.executable, "-W", "error", *QUIET, "-c", program],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env={key: value for key, value in merged.items() if value is not None},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_neort_generates_where_no_heavy_library_can_be_imported() -> None:
    program = """
import json, neort
out = neort.load(num_threads=1).generate("Once upon a time", max_new_tokens=4)
print(json.dumps(out.token_ids))
"""
    expected = neort.load(num_threads=1).generate("Once upon a time", max_new_tokens=4)
    assert python(BLOCK + program) == list(expected.token_ids)


def test_the_command_line_runs_where_no_heavy_library_can_be_imported() -> None:
    program = """
import contextlib, io, json
from neort.cli.main import main
with contextlib.redirect_stdout(io.StringIO()):
    status = [main(["info"]), main(["verify"]), main(["generate", "The", "--max-new-tokens", "2"])]
print(json.dumps(status))
"""
    assert python(BLOCK + program) == [0, int(SATURATES), 0]  # saturated logits are not the golden ones


def test_generating_loads_no_heavy_library_and_no_exporter() -> None:
    program = """
import json, sys, neort
neort.load(num_threads=1).generate("The", max_new_tokens=2)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
    loaded = set(python(program))
    assert {"neort", "numpy", "onnxruntime", "tiktoken"} <= loaded
    assert not loaded & {*HEAVY, "neort_export"}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads in /proc")
def test_importing_neort_starts_no_thread_beside_those_of_numpy() -> None:
    program = """
import json, os, numpy
before = len(os.listdir("/proc/self/task"))
import neort, neort.cli.main
print(json.dumps([before, len(os.listdir("/proc/self/task"))]))
"""
    before, after = python(program, ORT_DISABLE_TELEMETRY=None)
    assert after == before


def test_generating_loads_nothing_that_only_scores_or_integrates() -> None:
    program = """
import json, sys, neort
neort.load(num_threads=1).generate("The", max_new_tokens=2)
lazy = ("neort.scoring", "neort.features", "neort.integrations")
print(json.dumps(sorted(name for name in sys.modules if name.startswith(lazy))))
"""
    assert python(program) == []


def test_importing_and_generating_opens_no_socket() -> None:
    program = """
import json, socket, sys
opened = []
def audit(event, arguments):
    if event.startswith("socket.") and event != "socket.gethostname":
        opened.append(event)
sys.addaudithook(audit)
import neort
neort.load(num_threads=1).generate("The", max_new_tokens=2)
quiet = list(opened)
socket.socket().close()  # so that an empty list means something
print(json.dumps([quiet, opened]))
"""
    quiet, opened = python(program)
    assert quiet == []
    assert opened != []


def test_only_pulling_loads_what_opens_connections() -> None:
    program = """
import json, sys, neort, neort.cli.main
neort.load(num_threads=1)
before = [name for name in ("ssl", "http.client", "urllib.request", "neort.pulling") if name in sys.modules]
import neort.pulling
print(json.dumps([before, [name for name in ("ssl", "http.client") if name in sys.modules]]))
"""
    assert python(program) == [[], ["ssl", "http.client"]]


def test_importing_neort_reads_no_model() -> None:
    program = """
import json, sys
read = []
sys.addaudithook(lambda event, arguments: event == "open" and read.append(str(arguments[0])))
import neort, neort.cli.main
during_import = [path for path in read if "neo-mini" in path]
neort.load(num_threads=1)
print(json.dumps([during_import, any("neo-mini" in path for path in read)]))
"""
    assert python(program) == [[], True]


@pytest.mark.parametrize(("before", "after"), [(None, "1"), ("0", "0"), ("1", "1")])
def test_telemetry_is_off_unless_the_user_decided(before: str | None, after: str) -> None:
    program = "import json, os, neort; print(json.dumps(os.environ['ORT_DISABLE_TELEMETRY']))"
    assert python(program, ORT_DISABLE_TELEMETRY=before) == after


def test_every_public_name_exists() -> None:
    assert len(set(neort.__all__)) == len(neort.__all__)
    assert all(getattr(neort, name, None) is not None for name in neort.__all__)


MODULES = {module.name for module in pkgutil.walk_packages(neort.__path__, "neort.")}


@pytest.mark.parametrize(
    "name",
    sorted(
        MODULES
        - {"neort.__main__", "neort.cli.__main__", "neort.integrations", "neort.integrations.ray_data.__main__"}
        - {"neort.server"}
    ),
)
def test_every_module_declares_its_public_names(name: str) -> None:
    try:
        module = importlib.import_module(name)
        public_names = [getattr(module, public, None) is not None for public in module.__all__]
    except ImportError as error:
        if not isinstance(error, neort.MissingExtraError) and error.name not in ("ray", "pyarrow"):
            raise
        pytest.skip(str(error))
    assert public_names
    assert all(public_names)


def test_every_deliberate_error_is_public_and_a_neort_error() -> None:
    errors = importlib.import_module("neort.errors")
    for name in errors.__all__:
        assert getattr(neort, name) is getattr(errors, name)
        assert issubclass(getattr(errors, name), neort.NeortError)
