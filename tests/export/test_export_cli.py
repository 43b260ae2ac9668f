"""``neort-export`` and ``neort_export.export``: figures, limits, errors in one sentence, exit statuses."""

from __future__ import annotations

import dataclasses
import errno
import importlib.metadata
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest

import neort
from neort.bundle import sha256_of
from neort.errors import ConfigError
from neort.verification import check
from neort_export import ExportError, Limits, Report, VerificationError, export
from neort_export import exporter as exporter_module
from neort_export.bundle.manifest import with_checksum
from neort_export.cli import main
from neort_export.graph import nodes
from neort_export.verification.figures import Verification
from neort_export.verification.measure import measure

Replace = Callable[[str, object], None]
LENIENT = ["--max-mean-kl", "1", "--max-perplexity-ratio", "2"]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tmp_path / "bundle"


def one_error(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that the command wrote on stderr beside its progress, without its name."""
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    lines = [line for line in captured.err.splitlines() if line and not line.endswith(" ...")]
    assert len(lines) == 1
    name, _, message = lines[0].partition(": ")
    assert name == "neort-export"
    return message


def test_success_prints_the_figures(
    exporter: Replace, checkpoint: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(checkpoint), "-o", str(bundle), *LENIENT]) == 0
    out = capsys.readouterr().out
    stored = json.loads((bundle / "verification.json").read_text())
    size = sum(file.stat().st_size for file in bundle.iterdir()) / 1e6
    figures = stored["against_torch"]
    for figure in (
        f"{bundle}: {size:,.1f} MB, verified on 2,048 tokens",
        f"int8: {stored['grades']['int8'].partition(':')[0]} (perplexity at most",
        f"{stored['structure']['largest_error']:.2g} times torch's own rounding (limit 200)",
        f"mean KL {figures['int8']['mean_kl']:.2e}",
        f"p99 KL {figures['int8']['p99_kl']:.2e}",
        f"top-1 agreement {figures['int8']['top1_agreement']:.2%}",
        f"perplexity ratio {figures['int8']['perplexity_ratio']:.5f}",
        "in a batch against alone: 0, in chunks",
    ):
        assert figure in out
    assert neort.load(bundle, check_weights=True).bundle.quantization == "int8"


def test_progress_goes_to_stderr_stage_by_stage(
    exporter: Replace, checkpoint: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(checkpoint), "-o", str(bundle), "--quantization", "fp32"]) == 0
    captured = capsys.readouterr()
    stages = [line.removesuffix(" ...") for line in captured.err.splitlines() if line.endswith(" ...")]
    assert stages == [
        "tracing",
        "writing fp32 weights",
        "comparing each layer with torch",
        "running torch",
        "comparing fp32 with torch",
        "loading the bundle",
    ]
    assert "KL" not in captured.out


@pytest.mark.parametrize(
    ("option", "figure"),
    [
        ("--max-abs-diff", "fp32 against torch, max abs logit difference"),
        ("--max-mean-kl", "mean KL in nats"),
        ("--max-perplexity-ratio", "perplexity ratio less two standard errors"),
    ],
)
def test_a_missed_limit_is_told_with_its_figure_and_leaves_no_bundle(
    option: str, figure: str, exporter: Replace, checkpoint: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(checkpoint), "-o", str(bundle), *LENIENT, option, "0"]) == 1
    message = one_error(capsys)
    measured = message.partition(f"{figure}: ")[2].partition(",")[0]
    assert float(measured) > 0
    assert f"{figure}: {measured}, limit 0" in message
    assert list(bundle.parent.iterdir()) == []


def test_the_limit_of_fp32_holds_too(exporter: Replace, checkpoint: Path, bundle: Path) -> None:
    with pytest.raises(VerificationError, match="fp32 against torch, max abs logit difference"):
        export(checkpoint, bundle, quantization="fp32", limits=Limits(max_abs_diff=1e-9))
    assert list(bundle.parent.iterdir()) == []


def test_strict_asks_for_the_figures_of_a_trained_model(
    exporter: Replace, checkpoint: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(checkpoint), "-o", str(bundle), "--quantization", "int4", "--strict"]) == 1
    message = one_error(capsys)
    assert "mean KL in nats" in message
    assert "The next better format is int8-block" in message
    assert list(bundle.parent.iterdir()) == []


@pytest.fixture
def poor_int8_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports whose int8 cache, and nothing else, loses more than 5 % of perplexity."""

    def worse(*args: Any, **options: Any) -> Verification:
        measured = measure(*args, **options)
        assert measured.int8_cache is not None
        poor = dataclasses.replace(measured.int8_cache, perplexity=2 * measured.int8_cache.perplexity)
        return dataclasses.replace(measured, int8_cache=poor)

    monkeypatch.setattr(exporter_module, "measure", worse)


def test_a_poor_int8_cache_is_left_out_and_the_rest_is_written(
    exporter: Replace, poor_int8_cache: None, checkpoint: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(checkpoint), "-o", str(bundle)]) == 0
    assert "without a graph for an int8 cache: int8 with an int8 cache over torch" in capsys.readouterr().out
    stored = json.loads((bundle / "verification.json").read_text())
    assert list(stored["grades"]) == ["int8"]
    assert "decoder_int8_cache.onnx" not in neort.load(bundle, check_weights=True).bundle.file_names


@pytest.mark.parametrize(
    "arguments",
    [
        ["--max-mean-kl", "nan"],
        ["--max-mean-kl", "little"],
        ["--max-abs-diff", "-1"],
        ["--no-verify", "--strict"],
        ["--no-verify", "--max-mean-kl", "1"],
    ],
)
def test_limits_that_mean_nothing_are_refused_before_any_work(
    arguments: list[str], checkpoint: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([str(checkpoint), "-o", str(bundle), *arguments])
    assert arguments[0] in capsys.readouterr().err
    assert not bundle.exists()


def test_an_existing_output_is_refused(checkpoint: Path, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle.mkdir()
    assert main([str(checkpoint), "-o", str(bundle)]) == 1
    assert "exists already" in one_error(capsys)


def test_force_replaces_the_output(exporter: Replace, checkpoint: Path, bundle: Path) -> None:
    assert main([str(checkpoint), "-o", str(bundle), "--quantization", "fp32"]) == 0
    assert main([str(checkpoint), "-o", str(bundle), "--force", *LENIENT]) == 0
    assert neort.load(bundle).bundle.quantization == "int8"


def test_a_bad_checkpoint_is_one_line(tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path / "empty"), "-o", str(bundle)]) == 1
    assert "has no config.json" in one_error(capsys)
    assert not bundle.exists()


@pytest.mark.parametrize("stage", ["decoder_graph", "write_graph", "measure", "write_manifest"])
def test_ctrl_c_ends_with_130_and_leaves_nothing(
    stage: str, exporter: Replace, checkpoint: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    exporter(stage, interrupt)
    assert main([str(checkpoint), "-o", str(bundle), "--quantization", "fp32"]) == 130
    assert "interrupted; no bundle was written" in one_error(capsys)
    assert list(bundle.parent.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize(("number", "status"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_ends_with_its_status_and_leaves_nothing(
    number: str, status: int, exporter: Replace, checkpoint: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.signal(getattr(signal, number), signal.SIG_DFL)  # SIGHUP is ignored under nohup
    exporter("measure", lambda *_, **__: signal.raise_signal(getattr(signal, number)))
    assert main([str(checkpoint), "-o", str(bundle), "--quantization", "fp32"]) == status
    assert one_error(capsys) == f"ended by {number}; no bundle was written"
    assert list(bundle.parent.iterdir()) == []
    signal.signal(getattr(signal, number), before)


def test_memory_that_torch_does_not_get_is_one_sentence(
    exporter: Replace, checkpoint: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory")

    exporter("measure", fail)
    assert main([str(checkpoint), "-o", str(bundle), "--quantization", "fp32"]) == 1
    assert "the system gives no memory for the export of" in one_error(capsys)
    assert list(bundle.parent.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [["", "-o", "out"], ["here", "-o", ""], ["here", "-o", "out", "--text", ""], ["verify", "", "--against", "here"],
     ["verify", "out", "--against", ""]],
)  # fmt: skip
def test_an_empty_argument_is_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A variable of a shell that is not set."""
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "it is empty; name a file or folder" in capsys.readouterr().err


def test_a_full_standard_error_does_not_end_an_export(
    exporter: Replace, checkpoint: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.StringIO):
        def write(self, _: str, /) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sys, "stderr", Full())
    assert main([str(checkpoint), "-o", str(bundle), "--quantization", "fp32"]) == 0
    assert neort.load(bundle)


# The text of the verification


@pytest.mark.parametrize("content", [None, b"\xff\xfe\xfa latin?"], ids=["missing", "not UTF-8"])
def test_an_unreadable_text_is_one_line(
    content: bytes | None, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "text.txt"
    if content is not None:
        file.write_bytes(content)
    assert main([str(checkpoint), "-o", str(tmp_path / "bundle"), "--text", str(file)]) == 1
    assert f"{file} cannot be read as UTF-8 text" in one_error(capsys)


def test_a_text_of_one_s_own_is_what_is_measured(
    exporter: Replace, checkpoint: Path, bundle: Path, tmp_path: Path
) -> None:
    file = tmp_path / "text.txt"
    file.write_text("Call me Ishmael. " * 20, encoding="utf-8")
    assert main([str(checkpoint), "-o", str(bundle), "--text", str(file), *LENIENT]) == 0
    facts = json.loads((bundle / "verification.json").read_text())["text"]
    assert facts["tokens"] == 256  # two sequences of all 128 positions, of 340 bytes
    assert facts["sequence_length"] == 128


@pytest.mark.parametrize("text", ["", "abc"])
def test_a_text_too_short_to_measure_on_is_refused(
    text: str, exporter: Replace, checkpoint: Path, bundle: Path
) -> None:
    with pytest.raises(ExportError, match=rf"has {len(text)} tokens; give a longer one"):
        export(checkpoint, bundle, text=text)
    assert list(bundle.parent.iterdir()) == []


def test_a_text_shorter_than_a_sequence_is_measured_whole(exporter: Replace, checkpoint: Path, bundle: Path) -> None:
    report = export(checkpoint, bundle, quantization="fp32", text="Call me Ishmael.")
    assert report.verification is not None
    assert report.verification.tokens == 16


# Options and what is recorded


def test_an_unknown_quantization_names_the_known_ones(checkpoint: Path, bundle: Path) -> None:
    with pytest.raises(ConfigError, match="int8, int8-block, int4, fp32"):
        export(checkpoint, bundle, quantization="int3")  # type: ignore[arg-type]


def test_the_manifest_states_what_the_runtime_needs(int8_report: Report) -> None:
    manifest: dict[str, Any] = json.loads((int8_report.path / "manifest.json").read_text())
    assert manifest["model"] == {
        "architecture": "gpt_neo",
        "vocab_size": 311,
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 4,
        "head_dim": 8,
        "max_position_embeddings": 128,
        "window_size": 16,
        "attention_layers": ["global", "local"],
    }
    assert manifest["tools"]["onnxruntime"] == importlib.metadata.version("onnxruntime")
    assert manifest["source"] == {"name": "random", "revision": None}


def test_verification_json_is_json_whatever_the_limits(int8_report: Report) -> None:
    """The limits of this bundle are infinite, which JSON has no word for."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    json.loads((int8_report.path / "verification.json").read_text(), parse_constant=refuse)


def test_the_golden_logits_are_met_by_the_bundle_itself(int8_report: Report, fp32_bundle: Path) -> None:
    for path in (int8_report.path, fp32_bundle):
        golden, batch, together, chunks = check(path, kv_cache="fp32")
        assert golden.value <= 1e-5
        assert chunks.passed
        assert (batch.passed and together.passed) or path == fp32_bundle  # whose products may round otherwise


def test_a_graph_of_another_int8_cache_is_found_by_its_golden_logits(int8_report: Report, tmp_path: Path) -> None:
    """Its scales are those of a far smaller cache, and everything else fits."""
    bundle = Path(shutil.copytree(int8_report.path, tmp_path / "bundle"))
    file = bundle / "decoder_int8_cache.onnx"
    graph = ir.load(file)
    for node in nodes(graph.graph, "GroupQueryAttention"):
        for scale in node.inputs[12:15:2]:
            assert scale is not None
            assert scale.const_value is not None
            scale.const_value = ir.tensor(scale.const_value.numpy() / 50, name=scale.name)
    ir.save(graph, file)
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"][file.name] = {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
    (bundle / "manifest.json").write_text(json.dumps(with_checksum(manifest)))
    assert all(each.passed for each in check(int8_report.path))
    assert [each.name.partition(",")[0] for each in check(bundle) if not each.passed] == ["int8 cache: golden logits"]


# Without the extra


WITHOUT = """
import sys
for name in {missing!r}:
    sys.modules[name] = None
import neort_export
try:
    neort_export.export
except neort_export.errors.NeortError as error:
    print(type(error).__name__, error, sep=": ")
"""


def without(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("missing", [["torch"], ["onnx_ir"], ["safetensors"]])
def test_without_the_extra_the_remedy_is_named(missing: list[str]) -> None:
    done = without(WITHOUT.format(missing=missing))
    (line,) = done.stdout.splitlines()
    assert line.startswith("MissingExtraError: ")
    assert missing[0] in line
    assert 'pip install "neort[export]"' in line


def test_without_the_extra_the_command_prints_one_sentence(checkpoint: Path, bundle: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from neort_export.cli import main; sys.exit(main(sys.argv[1:]))"
    done = without(code, str(checkpoint), "-o", str(bundle))
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert 'pip install "neort[export]"' in line


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--help"], ["neort-export [export] CHECKPOINT -o BUNDLE", "neort-export verify BUNDLE --against CHECKPOINT"]),
        (
            ["export", "--help"],
            ["--max-mean-kl", "--quantization {int8,int8-block,int4,fp32}", "6e-04 nats", "5 % above"],
        ),
        (["verify", "--help"], ["--against CHECKPOINT", "--max-mean-kl"]),
        (["--version"], [f"neort-export {neort.__version__}"]),
    ],
)
def test_help_and_version_need_no_torch(arguments: list[str], told: list[str]) -> None:
    code = "import sys; sys.modules['torch'] = None; from neort_export.cli import main; main(sys.argv[1:])"
    done = without(code, *arguments)
    assert done.returncode == 0
    assert all(part in " ".join(done.stdout.split()) for part in told)
