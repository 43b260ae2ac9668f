"""A supervisor outlives its workers, gives every case an outcome, and runs the same case the same way."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from messages import MESSAGES
from mutations import BYTES, JSON, Mutation
from neort.bundle import bundled_path
from supervisor import HANG, NOISE, Result, supervise, table

ALL: dict[str, tuple[str, Mutation]] = {
    **{f"bytes, {name}": ("config.json", change) for name, change in BYTES.items()},
    **{f"JSON, {name}": ("config.json", change) for name, change in JSON.items()},
    **{f"protobuf, {name}": ("decoder.onnx", change) for name, change in MESSAGES.items()},
}
WORKER = """
import os, signal, sys, threading
sys.path.insert(0, sys.argv[1])
from supervisor import serve

def run(case):
    if case == 1:
        os.kill(os.getpid(), signal.SIGSEGV)
    if case == 2:
        threading.Event().wait()
    if case == 3:
        os._exit(7)
    if case == 4:
        print("noise")
    return "kind", "fine", str(case)

serve(run)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="other systems have other signals")
def test_every_case_has_an_outcome_whatever_its_worker_dies_of() -> None:
    command = [sys.executable, "-c", WORKER, str(Path(__file__).parent)]
    results = supervise(command, range(6), seconds=1.0, processes=2, kind_of=lambda case: "lost")
    found = {result.case: (result.kind, result.outcome) for result in results}
    assert found == {
        0: ("kind", "fine"),
        1: ("lost", "signal SIGSEGV"),
        2: ("lost", HANG),
        3: ("lost", "exit 7"),
        4: ("kind", NOISE),
        5: ("kind", "fine"),
    }


def test_a_worker_that_does_not_start_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="does not start"):
        list(supervise([sys.executable, "-c", "1 / 0"], range(3), seconds=1.0, kind_of=str))


def test_a_table_counts_outcomes_by_kind() -> None:
    results = [Result(0, "a", "fine", "", 1.0), Result(1, "a", "bad", "", 2.0), Result(2, "b", "fine", "", 0.5)]
    assert table(results).splitlines() == [
        "| kind | bad | fine | cases | longest, s |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| a | 1 | 1 | 2 | 2.00 |",
        "| b |  | 1 | 1 | 0.50 |",
        "| **all** | 1 | 2 | 3 | 2.00 |",
    ]


@pytest.mark.parametrize("name", ALL)
def test_a_mutation_is_the_same_for_the_same_seed_and_often_changes_something(name: str) -> None:
    file, change = ALL[name]
    contents = (bundled_path() / file).read_bytes()
    first, again = ([change(contents, random.Random(seed)) for seed in range(20)] for _ in range(2))
    assert first == again
    assert sum(damaged != contents for damaged in first) >= 5


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("contents", [b"", b"{}", b"[", b"\xff" * 9, b"\x3a\x00"], ids=ascii)
def test_a_mutation_never_fails(name: str, contents: bytes) -> None:
    for seed in range(5):
        ALL[name][1](contents, random.Random(seed))
