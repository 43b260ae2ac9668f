"""neort serve: bundles and their names, what is refused before one is loaded, and the line when all are ready."""

from __future__ import annotations

import errno
import io
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from missing import run_without
from neort import Model
from neort.bundle import bundled_path
from neort.cli.main import main
from patience import PATIENCE
from releases import QUIET

EXTRA = ("starlette", "uvicorn", "prometheus_client")


def test_without_the_extra_one_sentence_says_how_to_get_it() -> None:
    done = run_without(EXTRA, "from neort.cli.main import main; sys.exit(main(['serve']))")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith("pip install 'neort[serve]'\n")


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, model: Model) -> dict[str, Any]:
    """What `serve` is called with, and how models are loaded; nothing is served."""
    for name in ("starlette", "uvicorn", "prometheus_client"):
        pytest.importorskip(name)
    found: dict[str, Any] = {"loaded": []}

    def load(path: Path, **options: Any) -> Model:
        found["loaded"].append((path, options))
        return model

    def serve(settings: Any, models: Any, limits: Any, *, listening: socket.socket, ready: Any) -> int:
        found.update(settings=settings, models=models, limits=limits, address=listening.getsockname())
        ready("http://there")
        return 0

    monkeypatch.setattr("neort.server.workers.sources.load", load)
    monkeypatch.setattr("neort.server.app.serve", serve)
    return found


def refusal(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """The last line that a command that cannot be carried out says."""
    try:
        status: Any = main(["serve", "--port", "0", *args])
    except SystemExit as ended:
        status = ended.code
    assert status in (1, 2)
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("fault", [errno.EPIPE, errno.ENOSPC])
def test_a_server_goes_on_where_nobody_can_read_that_it_is_ready(
    served: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, fault: int
) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr("sys.stdout", Broken())
    assert main(["serve", "--port", "0"]) == 0
    assert capsys.readouterr().err.endswith(f"http://there serves {bundled_path().name}\n")


def test_without_a_bundle_the_demonstration_model_is_served_on_loopback(
    served: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--port", "0"]) == 0
    assert capsys.readouterr().out == f"http://there serves {bundled_path().name}\n"
    assert served["address"][0] == "127.0.0.1"
    assert [path for path, _ in served["loaded"]] == [bundled_path()]


def test_bundles_have_the_names_that_they_are_given(
    served: dict[str, Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    odd = tmp_path / "a=b"
    odd.mkdir()
    assert main(["serve", "--port", "0", "org/one=x", str(tmp_path), f"odd={odd}", "-m", "two=y"]) == 0
    assert [each.name for each in served["models"]] == ["org/one", tmp_path.name, "odd", "two"]
    assert [path for path, _ in served["loaded"]] == [Path("x"), tmp_path, odd, Path("y")]
    assert capsys.readouterr().out == f"http://there serves org/one, {tmp_path.name}, odd, two\n"
    assert "'a=b' cannot name a model" in refusal(capsys, str(odd))


def test_options_reach_the_model_and_the_server(served: dict[str, Any], tmp_path: Path) -> None:
    keys, template = tmp_path / "keys", tmp_path / "template"
    keys.write_text("0123456789abcdef\n")
    keys.chmod(0o600)
    template.write_text("{{ messages }}")
    options = (
        f"--host 0.0.0.0 --api-key-file {keys} --max-batch-size 7 --max-queue 9 --max-cache-bytes 2G "
        f"--prefix-cache-bytes 64MiB --kv-cache int8 --draft prompt-lookup --threads 1 --timeout 0 "
        f"--shutdown-timeout 5 --max-body-bytes 1k --max-connections 33 --max-prompts 3 --max-tokens 99 "
        f"--prefix-folder {tmp_path} --allowed-host Model.Example --chat-template one={template}"
    )
    assert main(["serve", "one=x", "two=y", "--port", "0", *options.split()]) == 0
    _, loading = served["loaded"][0]
    expected = {
        "num_threads": 1,
        "max_batch_size": 7,
        "max_queue": 9,
        "max_cache_bytes": 2 << 30,
        "prefix_cache_bytes": 64 << 20,
        "kv_cache": "int8",
        "draft": "prompt-lookup",
    }
    assert loading.items() >= expected.items()
    settings, limits = served["settings"], served["limits"]
    assert (settings.timeout, settings.shutdown_timeout, settings.max_body_bytes) == (None, 5.0, 1024)
    assert (settings.max_connections, settings.allowed_hosts) == (33, frozenset({"model.example"}))
    assert settings.keys.admit("0123456789abcdef")
    assert (limits.max_prompts, limits.max_tokens, limits.prefix_folder) == (3, 99, tmp_path)
    assert limits.max_sequences == 7 + 9  # a request of more would never be let in
    assert [each.chat_template for each in served["models"]] == ["{{ messages }}", None]


def test_what_cannot_be_served_is_refused_before_a_model_is_loaded(
    served: dict[str, Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert "--insecure" in refusal(capsys, "--host", "0.0.0.0")
    assert "two bundles are called a" in refusal(capsys, "a=x", "a=y")
    assert "cannot name a model" in refusal(capsys, "a b=x")
    assert "cannot be read" in refusal(capsys, "--api-key-file", str(tmp_path / "none"))
    assert "cannot be read" in refusal(capsys, "--chat-template", str(tmp_path / "none"))
    template = tmp_path / "template"
    template.write_text("{{ messages }}")
    assert "'c', which is no model; there are a, b" in refusal(capsys, "a=x", "b=y", "--chat-template", f"c={template}")
    twice = ["--chat-template", f"a={template}"] * 2
    assert "two chat templates are for a" in refusal(capsys, "a=x", *twice)
    assert "is no folder" in refusal(capsys, "--prefix-folder", str(tmp_path / "none"))
    assert "leaves no room" in refusal(capsys, "--max-cache-bytes", "0")
    assert "is no size" in refusal(capsys, "--max-body-bytes", "1.5Q")
    assert "is no time" in refusal(capsys, "--timeout", "nan")
    assert "is no count" in refusal(capsys, "--max-connections", "0")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "cannot be listened on" in refusal(capsys, "--port", str(taken.getsockname()[1]))
    assert served["loaded"] == []


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_the_command_says_where_it_serves_what_and_ends_in_order() -> None:
    for name in ("starlette", "uvicorn", "prometheus_client"):
        pytest.importorskip(name)
    program = "import sys; from neort.cli import main; sys.exit(main())"
    with subprocess.Popen(
        [sys.executable, *QUIET, "-c", program, "serve", "--port", "0", "--threads", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        try:
            assert process.stdout is not None
            address, said = process.stdout.readline().split(" ", 1)
            assert said == f"serves {bundled_path().name}\n"
            with urllib.request.urlopen(f"{address}/ready", timeout=PATIENCE) as answer:
                assert answer.read() == b'{"status":"ok"}'
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert process.returncode == 0
    assert " GET /ready 200 " in err
    assert "Traceback" not in err
