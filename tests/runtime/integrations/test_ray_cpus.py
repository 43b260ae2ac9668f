"""What needs no Ray: CPUs that actors of one machine take for themselves, and a sentence where Ray is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from missing import module_as_program, run_without
from neort.integrations.ray_data.cpus import nearest, own_folder, pin_to_own_cpus
from neort.workers import Cpu
from processes import running

PINS = """
import os, sys
from pathlib import Path
from neort.integrations.ray_data.cpus import pin_to_own_cpus
cpus = pin_to_own_cpus(1, Path(sys.argv[1]))
assert not cpus or os.sched_getaffinity(0) == set(cpus), (cpus, os.sched_getaffinity(0))
print("ready", flush=True)
print(*cpus, flush=True)
sys.stdin.read()
"""
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux pins threads to CPUs in this way")


def two_nodes(*numbers: int) -> list[Cpu]:
    """Some of eight CPUs: two nodes of two cores, whose second threads have the numbers from 4 on."""
    return [Cpu(number, number % 4 // 2, number % 4) for number in numbers]


def taken_by(process: subprocess.Popen[bytes]) -> set[int]:
    assert process.stdout is not None
    return {int(cpu) for cpu in process.stdout.readline().split()}


@pytest.mark.parametrize(
    ("free", "count", "chosen"),
    [
        (range(8), 2, {0, 4}),
        (range(8), 4, {0, 1, 4, 5}),
        ((0, 2, 3, 6), 2, {2, 6}),
        ((0, 1, 2, 3, 6), 2, {0, 1}),
        ((0, 1, 2, 3), 3, {0, 1, 2}),
        ((0, 1), 3, set()),
    ],
)
def test_cpus_are_of_one_node_and_of_whole_cores_where_they_can_be(
    free: range | tuple[int, ...], count: int, chosen: set[int]
) -> None:
    assert {cpu.number for cpu in nearest(two_nodes(*free), count)} == chosen


@linux
def test_no_two_processes_have_the_same_cpu_and_a_killed_one_has_none(tmp_path: Path) -> None:
    allowed = os.sched_getaffinity(0)
    with running(PINS, str(tmp_path)) as first:
        one = taken_by(first)
        with running(PINS, str(tmp_path)) as second:
            other = taken_by(second)
        with running(PINS, str(tmp_path)) as third:  # the second was killed
            assert taken_by(third) == other
    assert len(one) == 1
    assert len(other) == (len(allowed) > 1)
    assert one | other <= allowed
    assert not one & other


@linux
def test_a_process_that_wants_more_cpus_than_are_free_stays_where_it_is(tmp_path: Path) -> None:
    allowed = os.sched_getaffinity(0)
    assert pin_to_own_cpus(len(allowed) + 1, tmp_path) == ()
    assert os.sched_getaffinity(0) == allowed


def test_a_folder_that_others_may_write_to_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    folder = own_folder("packed")
    assert folder is not None
    assert folder.is_dir()
    if os.name == "posix":
        folder.parent.chmod(0o777)
        assert own_folder("packed") is None


def test_without_ray_the_command_says_in_a_sentence_what_to_install() -> None:
    done = run_without(("ray",), module_as_program("neort.integrations.ray_data"))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("neort.integrations.ray_data: Ray Data cannot be imported (")
    assert done.stderr.endswith("install it by: pip install 'neort[ray]'\n")
    assert done.stderr.count("\n") == 1


def test_without_ray_a_program_gets_a_missing_extra_error() -> None:
    done = run_without(("ray",), "from neort.integrations.ray_data import generate_dataset")
    assert done.stderr.splitlines()[-1].startswith("neort.errors.MissingExtraError: Ray Data cannot be imported")
