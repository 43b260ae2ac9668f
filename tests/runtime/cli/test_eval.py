"""`neort eval`: tables, JSON, documents in files, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from neort import Model
from neort.cli.main import main

TEXT = "Once upon a time there was a king.\n\nHe had three sons, and the youngest was a fool.\n"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the command line; gives its exit status, its output and its error output."""

    def run(*args: str) -> tuple[int, str, str]:
        status = main(["eval", *args])
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_each_figure_is_printed_with_its_definition(run: Any, file: Path, model: Model) -> None:
    status, out, err = run(str(file), "--num-threads", "1")
    assert (status, err) == (0, "")
    perplexity = model.perplexity(TEXT)
    for row in (
        f"tokens {perplexity.tokens}",
        f"words {perplexity.words}",
        f"bytes {perplexity.bytes}",
        f"token perplexity {perplexity.token:.4f}",
        f"bits per byte {perplexity.bits_per_byte:.4f}",
    ):
        assert row in [" ".join(line.split()) for line in out.splitlines()]
    assert r"words: pieces between white space, len(re.split(r'\s+', document))" in out
    assert "bits per byte: -log-likelihood / (bytes * ln 2)" in out


def test_bundles_stand_side_by_side_and_files_add_up(run: Any, file: Path, bundle_path: Path, model: Model) -> None:
    args = ["--bundle", str(bundle_path), "--bundle", str(bundle_path), "--num-threads", "1", "--json"]
    status, out, err = run(str(file), str(file), *args)
    found = json.loads(out)
    assert (status, err, len(found["bundles"])) == (0, "", 2)
    for bundle in found["bundles"]:
        assert bundle["quantization"] == "int8"
        assert bundle["files"][0]["word_perplexity"] == model.perplexity(TEXT).word
        assert bundle["total"]["tokens"] == 2 * bundle["files"][0]["tokens"]
    assert found["notes"] == []


@pytest.mark.parametrize(("split", "count"), [("nothing", 1), ("lines", 2), ("blank-lines", 2)])
def test_documents_are_what_a_file_is_split_into(run: Any, file: Path, split: str, count: int) -> None:
    status, out, _ = run(str(file), "--split-on", split, "--num-threads", "1", "--json")
    assert status == 0
    assert json.loads(out)["bundles"][0]["files"][0]["documents"] == count


@pytest.mark.parametrize("name", ["texts.jsonl", "texts.ndjson"])
def test_json_lines_have_a_document_each(run: Any, tmp_path: Path, model: Model, name: str) -> None:
    file = tmp_path / name
    file.write_text('{"page": "Once upon"}\n\n{"page": "a time\\n there"}\n', encoding="utf-8")
    status, out, _ = run(str(file), "--field", "page", "--num-threads", "1", "--json")
    figures = json.loads(out)["bundles"][0]["total"]
    parts = model.perplexity(["Once upon", "a time\n there"])
    assert status == 0
    assert figures["words"] == 2 + 3
    assert figures["log_likelihood"] == pytest.approx(sum(part.log_likelihood for part in parts))


def test_tokenized_wikitext_is_told_from_raw(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "wiki.txt"
    file.write_text("The <unk> of the king", encoding="utf-8")
    status, out, err = run(str(file), "--num-threads", "1")
    assert status == 0
    assert "word perplexity" in out
    assert err.startswith(f"neort: {file} is tokenized text (it holds <unk>")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"", "a.txt", "holds no text"),
        (b"\xff\xfe", "a.txt", "is no UTF-8 text (byte 0 is 0xff)"),
        (b"{", "a.jsonl", "line 1 is no JSON"),
        (b'{"txt": "a"}', "a.jsonl", "line 1 has no text under 'text', it is {'txt': 'a'}; give the key by --field"),
        (None, "a.txt", "cannot be read (No such file or directory)"),
    ],
)
def test_files_that_hold_no_text_are_refused(
    run: Any, tmp_path: Path, content: bytes | None, name: str, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    status, out, err = run(str(tmp_path / name))
    assert (status, out) == (1, "")
    assert err.startswith("neort: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("length", ["0", "513"])
def test_windows_beyond_the_context_are_wrong_usage(run: Any, file: Path, length: str) -> None:
    with pytest.raises(SystemExit) as ended:
        run(str(file), "--max-length", length)
    assert ended.value.code == 2


def test_every_bundle_is_looked_at_before_the_first_one_runs(
    run: Any, file: Path, bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("neort.cli.commands.eval.load")
    status, out, err = run(str(file), "--bundle", str(bundle_path), "--bundle", str(tmp_path / "none"))
    assert (status, out) == (1, "")
    assert f"{tmp_path / 'none'} is not a folder" in err
