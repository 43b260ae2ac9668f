"""What Ray carries: files as parts, records' results, files of results, and how a cluster is shared out."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

import neort
from neort.batches import RawRecord, Record, line_of, read_records
from neort.errors import ConfigError, PromptError, StorageError
from neort.files import FileLock
from published import laid

pa = pytest.importorskip("pyarrow", reason="needs neort[ray]")
pytest.importorskip("ray.data", reason="needs neort[ray]")

from neort.integrations.ray_data import generate_dataset  # noqa: E402
from neort.integrations.ray_data.actors import Settings  # noqa: E402
from neort.integrations.ray_data.cluster import Pool, Shares, shares_of  # noqa: E402
from neort.integrations.ray_data.command import main  # noqa: E402
from neort.integrations.ray_data.job import Job, Outcome  # noqa: E402
from neort.integrations.ray_data.parts import (  # noqa: E402
    InputFile,
    described,
    errors_in,
    found_parts,
    input_files,
    part_name,
    parts_of,
    placed,
    remove_partial,
    unpacked,
)
from neort.integrations.ray_data.results import DoneParts, ResultFiles, checkpoint  # noqa: E402
from neort.integrations.ray_data.tables import seed_index, table_records, with_results  # noqa: E402
from neort.integrations.ray_data.works import Embedding, Generating, Scoring, Work  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # what other projects warn of is theirs

LINES = st.lists(
    st.sampled_from(["", " ", '{"prompt": "a"}', '{"prompt": [1]}', "{", "x\r", "\ufeff{}", "é"]), max_size=20
)
PROMPTS = ["Once upon a time", "", "the king", "sea " * 2000, [1, 2, 3], [10**9], "It was"]


@hypothesis.given(lines=LINES, size=st.integers(1, 7), first=st.integers(0, 9), end=st.sampled_from(["", "\n"]))
def test_parts_have_the_records_of_their_file_in_order(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], size: int, first: int, end: str
) -> None:
    content = ("\n".join(lines) + end).encode()
    file = tmp_path_factory.mktemp("parts") / "in.jsonl"
    file.write_bytes(content)
    found = described(str(file), "jsonl")
    records: list[Record] = []
    for part in parts_of(InputFile(str(file), found.digest, found.records, first), "jsonl", size):
        again = unpacked(part.first, part.packed())
        assert again.first == first + len(records)
        assert 0 < len(again.table) <= size
        records += [
            RawRecord(index, row["digest"], 0, row["raw"]).parsed("jsonl", "prompt")
            for index, row in enumerate(again.table.to_pylist(), again.first)
        ]
    whole = list(read_records(io.BytesIO(content), "jsonl", "prompt"))
    assert [(r.index - first, r.digest, r.prompt, r.kept, r.error) for r in records] == [
        (r.index, r.digest, r.prompt, r.kept, r.error) for r in whole
    ]
    assert found.records == len(whole)


def test_parts_of_a_table_have_its_rows_whatever_its_row_groups_are(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    file, table = tmp_path / "in.parquet", pa.table({"prompt": [f"p{i}" for i in range(2500)]})
    pq.write_table(table, file, row_group_size=700)
    found = described(str(file), "parquet")
    parts = list(parts_of(found, "parquet", 300))
    assert found.records == 2500
    assert [part.first for part in parts] == list(range(0, 2500, 300))
    assert pa.concat_tables([part.table for part in parts]) == table


def test_indices_run_on_from_file_to_file_in_the_order_of_names(tmp_path: Path) -> None:
    for name, count in (("b.jsonl", 3), ("a.jsonl", 2), ("_hidden.jsonl", 9), ("notes.md", 9)):
        (tmp_path / name).write_text('{"prompt": "a"}\n' * count, encoding="utf-8")
    files, kind = input_files([str(tmp_path)], None)
    found = placed(described(file, kind) for file in files)
    assert [(Path(file.path).name, file.first, file.records) for file in found] == [
        ("a.jsonl", 0, 2),
        ("b.jsonl", 2, 3),
    ]


def test_another_content_has_another_digest(tmp_path: Path) -> None:
    file, digests = tmp_path / "in.jsonl", set()
    for text in ('{"prompt": "a"}\n{"prompt": "b"}', '{"prompt": "b"}\n{"prompt": "a"}', '{"prompt": "a"}'):
        file.write_text(text, encoding="utf-8")
        digests.add(described(str(file), "jsonl").digest)
    assert len(digests) == 3


@pytest.mark.parametrize(
    ("names", "error", "said"),
    [
        (["none.jsonl"], PromptError, "is not there; give a file or a folder"),
        (["text.txt"], ConfigError, "says nothing of its format; give --input-format, one of jsonl, lines, parquet"),
        (["a.jsonl", "b.parquet"], ConfigError, "several formats, jsonl, parquet; give one job for each"),
        (["s3://bucket/a.jsonl"], ConfigError, "is no path; name files on a file system that all nodes"),
    ],
)
def test_inputs_that_name_no_files_of_one_format_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str], error: type[Exception], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("text.txt", "a.jsonl", "b.parquet"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(error, match=said):
        input_files(names, None)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "in.parquet").write_bytes(b"no Parquet")
    with pytest.raises(PromptError, match=r"in\.parquet cannot be read"):
        described(str(tmp_path / "in.parquet"), "parquet")


# Records and results


def records_of(prompts: list[Any]) -> list[Record]:
    return [Record.of_members(i, f"d{i}", 0, {"prompt": prompt}, "prompt") for i, prompt in enumerate(prompts)]


def alone(model: neort.Model, prompt: Any, run: Callable[[Any], Any]) -> Any:
    try:
        return run(prompt)
    except (PromptError, neort.ArgumentTypeError) as refused:
        return str(refused)


def test_each_text_is_scored_as_if_it_were_alone_and_refusals_are_its_own(model: neort.Model) -> None:
    results = Scoring("log_likelihood").results(model, [*records_of(PROMPTS), Record(7, "d", 0, error="no JSON")])
    expected = [alone(model, prompt, lambda text: model.score(text).log_likelihood) for prompt in PROMPTS]
    found = [result.get("log_likelihood", result.get("error")) for _, result in results]
    assert found == [*expected, "no JSON"]
    assert [result["index"] for _, result in results] == list(range(8))
    assert sum("error" in result for _, result in results) == 5


def test_a_context_is_the_records_own(model: neort.Model) -> None:
    members = {"prompt": " time", "before": "Once upon a"}
    ((_, result),) = Scoring("score", "before").results(model, [Record.of_members(0, "", 0, members, "prompt")])
    score = model.score(" time", "Once upon a")
    assert (result["score"], result["tokens"], result["is_greedy"]) == (
        score.log_likelihood, len(score.token_ids), score.is_greedy,
    )  # fmt: skip
    assert result["before"] == "Once upon a"


def test_each_vector_is_that_of_its_text_alone(model: neort.Model) -> None:
    work = Embedding("vector", pooling="last", normalize=True, truncation="right")
    found = [result.get("vector", result.get("error")) for _, result in work.results(model, records_of(PROMPTS))]
    how: dict[str, Any] = {"pooling": "last", "normalize": True, "truncation": "right"}
    assert found == [alone(model, prompt, lambda text: model.embed(text, **how).tolist()) for prompt in PROMPTS]


@pytest.mark.parametrize(
    ("work", "columns"),
    [
        (Generating("text", {"max_new_tokens": 2}), {"text": "string", "new_tokens": "int64"}),
        (
            Generating("text", {"max_new_tokens": 2, "num_return_sequences": 2, "do_sample": True, "logprobs": 1}),
            {"text": "list<item: string>", "finish_reason": "list<item: string>", "prompt_tokens": "int64"},
        ),
        (Generating("text", {"max_new_tokens": 2, "num_beams": 2, "do_sample": False}), {"score": "double"}),
        (Scoring("score"), {"score": "double", "is_greedy": "bool"}),
        (Embedding("vector"), {"vector": "list<item: float>"}),
    ],
)  # fmt: skip
def test_columns_have_the_same_types_in_every_part(model: neort.Model, work: Work, columns: dict[str, str]) -> None:
    schemas = []
    for prompts in (["the king", ""], [""]):
        table = pa.table({"prompt": prompts, "error": ["mine"] * len(prompts)})
        records = table_records(table, range(len(table)), work, "prompt")
        made = with_results(table, work.results(model, records), work, model)
        assert made["error"].to_pylist()[-1].startswith(("the prompt is empty", "the text", "text"))
        schemas.append(made.schema)
    assert schemas[0] == schemas[1]
    assert {name: str(schemas[0].field(name).type) for name in columns} == columns


def test_a_row_that_is_no_prompt_has_an_error_and_a_missing_column_is_named() -> None:
    table = pa.table({"prompt": [None, "a"]})
    first, second = table_records(table, [4, 5], Scoring("score"), "prompt")
    assert first.error == "its 'prompt' is None; it must be text or token ids"
    assert (second.index, second.prompt, second.error) == (5, "a", "")
    with pytest.raises(ConfigError, match="the table has no column text; it has prompt"):
        table_records(table, [4, 5], Scoring("score"), "text")


def test_seeds_follow_from_ids() -> None:
    assert [seed_index(value) for value in (0, 7)] == [0, 7]
    others = [seed_index(value) for value in ("a", "b", -1, None, "a")]
    assert len(set(others)) == 4
    assert others[0] == others[-1]
    assert all(0 <= value < 1 << 48 for value in others)


# Files of results


def blocks(*rows: tuple[int, bytes, int]) -> list[Any]:
    names = ("first", "content", "errors")
    return [pa.Table.from_pylist([dict(zip(names, row, strict=True))]) for row in rows]


def test_a_part_is_done_when_its_file_is_there_and_only_then(tmp_path: Path) -> None:
    sink = ResultFiles(tmp_path, "jsonl")
    errors = sink.write(blocks((256, b"b\n", 1), (0, b"a\n", 2)), None)
    sink.write(blocks((0, b"a\n", 2)), None)  # by a task that was tried again
    (tmp_path / ".part-000000000512.jsonl.partial-1").write_bytes(b"")
    sink.on_write_complete(SimpleNamespace(write_returns=[errors, None]))
    assert sink.errors == 3
    assert found_parts(tmp_path) == {0, 256}
    assert b"".join(file.read_bytes() for file in sorted(tmp_path.glob("part-*"))) == b"a\nb\n"
    assert part_name(10**12, "parquet") > part_name(10**11, "parquet")


def test_rays_filter_is_told_the_parts_that_have_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.put", lambda value: value)
    config = checkpoint(tmp_path)
    manager = DoneParts(config, SimpleNamespace())
    assert manager.load_checkpoint(str(tmp_path)) == (None, 0)
    ResultFiles(tmp_path, "jsonl").write(blocks((256, b"", 0), (0, b"", 0)), None)
    done, size = manager.load_checkpoint(str(tmp_path))
    assert (done.tolist(), size, config.id_column) == ([0, 256], 16, "first")


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"part-000000000000\.jsonl .*the same command again"):
        ResultFiles(tmp_path / "missing", "jsonl").write(blocks((0, b"", 0)), None)


def test_what_killed_tasks_left_is_removed_once_and_not_with_each_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (".part-000000000000.jsonl.partial-0f", ".part-000000000000.jsonl.partial-0f.lock", ".part-of-mine"):
        (tmp_path / name).write_bytes(b"")
    with monkeypatch.context() as patched:
        patched.setattr("neort.files.publishing.remove_leftovers", None)
        ResultFiles(tmp_path, "jsonl").write(blocks((0, b"", 0)), None)
    remove_partial(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"part-000000000000.jsonl", ".part-of-mine"}


def test_errors_are_counted_in_files_of_either_kind(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    lines, table = tmp_path / "part-000000000000.jsonl", tmp_path / "part-000000000000.parquet"
    results: list[dict[str, Any]] = [{"prompt": '"error"'}, {"error": "it is no JSON"}, {"kept": {"error": 1}}]
    lines.write_bytes(b"".join(map(line_of, results)))
    pq.write_table(pa.table({"prompt": ["a", "b"], "error": [None, "it is empty"]}), table)
    assert errors_in([str(lines), str(table)]) == 2
    table.write_bytes(b"no Parquet")
    with pytest.raises(StorageError, match=r"\.parquet cannot be read .*remove a damaged file"):
        errors_in([str(table)])


# Jobs, without the cluster


ROWS = ((0, b'{"error": "it is empty"}\n', 1), (1, b'{"score": -1.0}\n', 0))


@pytest.fixture
def job(bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Job]:
    """Makes jobs of two parts of one record, which are there without being computed."""

    def flow(self: Job, *_: Any) -> ResultFiles:
        sink = ResultFiles(self.output, "jsonl")
        errors = sink.write(blocks(*(row for row in ROWS if row[0] not in found_parts(self.output))), None)
        sink.on_write_complete(SimpleNamespace(write_returns=[errors]))
        return sink

    def make(**options: Any) -> Job:
        settings = Settings(str(bundle_path), Scoring("score"))
        return Job([str(tmp_path / "in.jsonl")], "jsonl", tmp_path / "out", settings, Pool(), 1, **options)

    (tmp_path / "in.jsonl").write_text('{"prompt": ""}\n{"prompt": "a"}\n', encoding="utf-8")
    ray = SimpleNamespace(remote=lambda function: SimpleNamespace(remote=function), get=lambda value: value)
    monkeypatch.setattr("neort.integrations.ray_data.job.ray", ray)
    monkeypatch.setattr("neort.integrations.ray_data.job.connected", lambda pool: contextlib.nullcontext(Shares(1, 1)))
    monkeypatch.setattr(Job, "_flow", flow)
    return make


def test_a_job_that_goes_on_counts_the_errors_of_earlier_runs(job: Callable[..., Job], tmp_path: Path) -> None:
    assert job().run() == Outcome(2, 0, 2, 1)
    assert job().run() == Outcome(2, 2, 2, 1)
    (tmp_path / "out" / part_name(1, "jsonl")).unlink()
    assert job().run() == Outcome(2, 1, 2, 1)


def test_beginning_anew_removes_parts_and_nothing_else(job: Callable[..., Job], tmp_path: Path) -> None:
    job().run()
    (tmp_path / "out" / "part-x").mkdir()
    (tmp_path / "out" / "part-of-mine.jsonl").write_bytes(b"")
    assert job(overwrite=True).run() == Outcome(2, 0, 2, 1)
    assert (tmp_path / "out" / "part-x").is_dir()
    assert (tmp_path / "out" / "part-of-mine.jsonl").is_file()


def test_a_disk_that_is_full_is_told_in_a_sentence(
    job: Callable[..., Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("neort.integrations.ray_data.job.write_facts", fail)
        with pytest.raises(StorageError, match=rf"out \({os.strerror(errno.ENOSPC)}\); .*the same command again"):
            job().run()
    monkeypatch.undo()
    (tmp_path / "out" / "_checkpoint").write_bytes(b"")
    with pytest.raises(StorageError, match=r"out \(File exists\); .*the same command again"):
        job()._flow([], 1, Shares(1, 1))


def test_a_folder_that_another_job_writes_is_named(job: Callable[..., Job], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    lock = FileLock(tmp_path / "out" / ".results.lock")
    lock.take()
    with pytest.raises(StorageError, match=r"out is being written by another process; .* or give another OUTPUT"):
        job().run()
    lock.remove()


def test_a_bundle_is_named_by_what_it_was_pulled_by(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    dataset = SimpleNamespace(map_batches=lambda actor, **how: how)
    made: Any = generate_dataset(dataset, laid(tmp_path, bundle_path))
    assert made["fn_constructor_args"][0].bundle == str(bundle_path.resolve())


# The cluster, and the command's usage


@pytest.mark.parametrize(
    ("asked", "nodes", "shares"),
    [
        ((None, None), [64, 64], (2, 63)),
        ((None, None), [2], (1, 1)),
        ((None, 4), [16, 16], (7, 4)),
        ((None, 5), [16, 16], (6, 5)),
        ((2, 1), [2, 2], (2, 1)),
        ((8, 4), [16, 17], (8, 4)),
    ],
)
def test_a_cluster_is_shared_out_with_a_cpu_left_for_ray(
    asked: tuple[int | None, int | None], nodes: list[int], shares: tuple[int, int]
) -> None:
    assert shares_of(Pool(*asked, "auto"), nodes) == Shares(*shares)


@pytest.mark.parametrize(("asked", "nodes"), [((4, 1), [2, 2]), ((1, 4), [4]), ((2, 8), [16]), ((1, 1), [1])])
def test_what_does_not_fit_on_a_cluster_is_refused(asked: tuple[int, int], nodes: list[int]) -> None:
    with pytest.raises(ConfigError, match=r"do not fit on nodes of .*; give fewer --workers or --num-threads"):
        shares_of(Pool(*asked, "auto"), nodes)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--score", "--seed", "1"], "--seed is for text that is generated; leave it out, or --score"),
        (["--embed", "--context-key", "a"], "--context-key is for --score; leave it out, or give that, too"),
        (["--pooling", "last"], "--pooling is for --embed; leave it out, or give that, too"),
        (["--workers", "0"], "it is '0'; give a number from 1 on"),
        (["--score", "--embed"], "not allowed with argument"),
        (["--colour"], "unrecognized arguments: --colour"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    with pytest.raises(SystemExit):
        main(["in.jsonl", "out", *arguments])
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--output-key", "prompt"], "the output key 'prompt' names another member"),
        (["--score", "--output-key", "tokens"], "the output key 'tokens' names another member"),
        (["--workers", "9999"], "9999 workers of 1 threads need 9999 CPUs"),
        (["--bundle", "missing"], "missing"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence_before_ray_starts(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text(json.dumps({"prompt": "a"}), encoding="utf-8")
    assert main(["in.jsonl", "out", *arguments]) == 1
    told = capsys.readouterr().err
    assert told.startswith("neort.integrations.ray_data: ")
    assert said in told
    assert told.count("\n") == 1


def test_an_input_in_the_folder_for_results_is_refused_before_ray_starts(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prompts = tmp_path / part_name(0, "jsonl")
    prompts.write_text(json.dumps({"prompt": "a"}), encoding="utf-8")
    assert main([".", ".", "--overwrite"]) == 1
    assert f"{prompts} is in the folder for results, which holds nothing else" in capsys.readouterr().err
    assert prompts.is_file()
