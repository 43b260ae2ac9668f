"""Jobs of Ray Data on a cluster of two nodes, which are killed and go on, beside what one process makes of the same."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import neort
from neort.errors import ConfigError
from patience import PATIENCE

pa = pytest.importorskip("pyarrow", reason="needs neort[ray]")
ray = pytest.importorskip("ray", reason="needs neort[ray]")
pytest.importorskip("ray.data", reason="needs neort[ray]")

from neort.cli import main as neort_main  # noqa: E402
from neort.integrations.ray_data import Actors, generate_dataset  # noqa: E402
from neort.integrations.ray_data.command import main  # noqa: E402
from ray_cluster import two_nodes  # noqa: E402
from ray_jobs import ACTOR, MARK, MODULE, environment, marked, results, write_prompts  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # what other projects warn of is theirs
    pytest.mark.skipif(sys.platform != "linux", reason="Ray's processes are found in /proc"),
]

RECORDS, SIZE = 40, 4
OPTIONS = ["--max-new-tokens", "12", "--do-sample", "--seed", "3"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster that this process has joined, whose processes can be found by it."""
    os.environ |= environment(mark := f"test_ray_data {os.getpid()}")
    with two_nodes() as address:
        assert marked(mark)
        yield address


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "in.jsonl"
    write_prompts(file, RECORDS, random.Random(0))
    return file


def job(prompts: Path, address: str) -> list[str]:
    """The arguments of a job, two workers of which write ten files."""
    options = ["--address", address, "--workers", "2", "--num-threads", "1", "--records-per-file", str(SIZE)]
    return [str(prompts), str(prompts.parent / "out"), *options, *OPTIONS]


def by_one_process(prompts: Path) -> bytes:
    output = prompts.with_name("one.jsonl")
    assert neort_main(["generate", "--input", str(prompts), "--output", str(output), *OPTIONS]) == 1
    return output.read_bytes()


def when(count: int, folder: Path, act: Callable[[], object]) -> threading.Thread:
    """Act in a thread once there are so many files of results."""

    def wait() -> None:
        while len(list(folder.glob("part-*"))) < count:
            time.sleep(0.01)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def kill_an_actor(killed: list[int]) -> None:
    actors = [process for process, name in marked(os.environ[MARK]).items() if name.startswith(ACTOR)]
    os.kill(actors[0], signal.SIGKILL)
    killed.append(actors[0])


def test_a_job_that_was_killed_and_loses_an_actor_writes_what_one_process_does(
    cluster: str, prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, output = job(prompts, cluster), prompts.parent / "out"
    with subprocess.Popen([sys.executable, "-m", MODULE, *arguments], stderr=subprocess.DEVNULL) as first:
        when(2, output, first.kill).join(PATIENCE)
    before = {file.name: file.stat().st_ino for file in output.glob("part-*")}
    expected = by_one_process(prompts)
    killed: list[int] = []
    killing = when(len(before) + 1, output, lambda: kill_an_actor(killed))
    assert main(arguments) == 1
    killing.join(PATIENCE)
    assert killed
    assert results(output) == expected
    assert {name: (output / name).stat().st_ino for name in before} == before  # not written again
    assert {file.name for file in output.iterdir()} == {
        "_run.json",
        *(f"part-{i:012}.jsonl" for i in range(0, 40, SIZE)),
    }
    assert f"of 10 parts are in {output} already; going on after them" in capsys.readouterr().err


def test_a_job_that_is_done_has_nothing_to_do_and_another_one_is_refused(
    cluster: str, prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, output = job(prompts, cluster), prompts.parent / "out"
    prompts.write_text('{"prompt": "the king"}\n' * 2, encoding="utf-8")
    assert main(arguments) == 0
    made = results(output)
    assert main(arguments) == 0
    assert f"all 1 parts are in {output} already; there was nothing to do" in capsys.readouterr().err
    assert main([*arguments, "--seed", "4"]) == 1
    assert f"{output} has results with seed=3, and this command has 4" in capsys.readouterr().err
    prompts.write_text('{"prompt": "the queen"}\n' * 2, encoding="utf-8")
    assert main(arguments) == 1
    assert "has results with input=" in capsys.readouterr().err
    assert results(output) == made


def test_rows_of_tables_get_the_text_of_their_ids_seed(cluster: str, model: neort.Model, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    prompts = [f"the {word} king" for word in ("old", "young", "dead")] + ["", "the sea"]
    table = pa.table({"id": range(5), "prompt": prompts})
    options: dict[str, Any] = {"max_new_tokens": 8, "do_sample": True}
    expected = [model.generate(text, seed=3 + i, **options).text if text else None for i, text in enumerate(prompts)]

    dataset = generate_dataset(ray.data.from_arrow(table), id_key="id", seed=3, actors=Actors(batch_rows=2), **options)
    rows = sorted(dataset.take_all(), key=lambda row: row["id"])
    assert [row["completion"] for row in rows] == expected
    assert [bool(row["error"]) for row in rows] == [text is None for text in expected]

    pq.write_table(table, tmp_path / "in.parquet")
    arguments = [str(tmp_path / "in.parquet"), str(tmp_path / "out"), "--records-per-file", "2", "--workers", "1"]
    assert main([*arguments, "--num-threads", "1", "--max-new-tokens", "8", "--do-sample", "--seed", "3"]) == 1
    found = pq.read_table(tmp_path / "out")
    assert found["completion"].to_pylist() == expected
    assert found.select(["id", "prompt", "index"]).to_pydict() == {
        "id": list(range(5)), "prompt": prompts, "index": list(range(5)),
    }  # fmt: skip


def test_a_seed_without_ids_is_refused(cluster: str) -> None:
    dataset = ray.data.from_items([{"prompt": "a"}])
    with pytest.raises(ConfigError, match="seed is 3, and seeds belong to rows; give id_key"):
        generate_dataset(dataset, do_sample=True, seed=3)
