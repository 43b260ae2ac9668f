"""Numbers of threads: affinity, cut by the quotas of fake control groups; and the most that are let through."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from neort.backend import available_cpus, plain_options, threads
from neort.backend.threads import cgroup_quota
from neort.errors import ConfigError


class Groups:
    """A fake /proc/self/cgroup and /sys/fs/cgroup."""

    def __init__(self, folder: Path) -> None:
        self.proc, self.root = folder / "cgroup", folder / "fs"
        self.root.mkdir()

    def write(self, path: str, contents: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(contents)

    def quota(self, lines: str) -> float:
        self.proc.write_text(lines)
        return cgroup_quota(self.proc, self.root)


@pytest.fixture
def groups(tmp_path: Path) -> Groups:
    return Groups(tmp_path)


@pytest.mark.parametrize(("contents", "cpus"), [("200000 100000\n", 2.0), ("50000 100000\n", 0.5), ("150000 50000", 3)])
def test_v2_quota_is_time_per_period(groups: Groups, contents: str, cpus: float) -> None:
    groups.write("app/cpu.max", contents)
    assert groups.quota("0::/app\n") == cpus


@pytest.mark.parametrize("smallest", ["", "pod/", "pod/app/"])
def test_v2_the_smallest_quota_of_the_group_and_its_parents_counts(groups: Groups, smallest: str) -> None:
    for folder in ("", "pod/", "pod/app/"):
        groups.write(f"{folder}cpu.max", "100000 100000" if folder == smallest else "400000 100000")
    assert groups.quota("0::/pod/app\n") == 1.0


def test_v2_max_is_no_quota(groups: Groups) -> None:
    groups.write("app/cpu.max", "max 100000\n")
    assert groups.quota("0::/app\n") == math.inf


def test_v2_a_parents_quota_counts_where_the_group_has_max(groups: Groups) -> None:
    groups.write("pod/app/cpu.max", "max 100000\n")
    groups.write("pod/cpu.max", "300000 100000\n")
    assert groups.quota("0::/pod/app\n") == 3.0


def test_v2_the_root_counts_where_a_container_hides_its_path(groups: Groups) -> None:
    groups.write("cpu.max", "200000 100000\n")
    assert groups.quota("0::/hidden/by/the/container\n") == 2.0


@pytest.mark.parametrize("controllers", ["cpu", "cpu,cpuacct", "cpuacct,cpu"])
def test_v1_quota_is_that_of_the_cpu_controller(groups: Groups, controllers: str) -> None:
    groups.write("cpu/app/cpu.cfs_quota_us", "250000\n")
    groups.write("cpu/app/cpu.cfs_period_us", "100000\n")
    assert groups.quota(f"7:memory:/app\n4:{controllers}:/app\n") == 2.5


def test_v1_minus_one_is_no_quota(groups: Groups) -> None:
    groups.write("cpu/app/cpu.cfs_quota_us", "-1\n")
    groups.write("cpu/app/cpu.cfs_period_us", "100000\n")
    assert groups.quota("4:cpu,cpuacct:/app\n") == math.inf


def test_v1_other_controllers_have_no_cpu_quota(groups: Groups) -> None:
    groups.write("cpu/app/cpu.cfs_quota_us", "100000\n")
    groups.write("cpu/app/cpu.cfs_period_us", "100000\n")
    assert groups.quota("4:cpuset:/app\n3:name=systemd:/app\n") == math.inf


def test_both_versions_at_once_give_the_smaller_quota(groups: Groups) -> None:
    groups.write("cpu/app/cpu.cfs_quota_us", "300000\n")
    groups.write("cpu/app/cpu.cfs_period_us", "100000\n")
    groups.write("app/cpu.max", "200000 100000\n")
    assert groups.quota("4:cpu:/app\n0::/app\n") == 2.0


def test_a_path_with_colons_is_read_whole(groups: Groups) -> None:
    groups.write("docker:a:b/cpu.max", "200000 100000\n")
    assert groups.quota("0::/docker:a:b\n") == 2.0


@pytest.mark.parametrize("contents", ["", "max", "1 2 3", "a b", "100000"])
def test_files_of_another_form_are_no_quota(groups: Groups, contents: str) -> None:
    groups.write("app/cpu.max", contents)
    groups.write("cpu/app/cpu.cfs_quota_us", contents)
    groups.write("cpu/app/cpu.cfs_period_us", contents)
    assert groups.quota("4:cpu:/app\n0::/app\n") in (math.inf, 1.0)


@pytest.mark.parametrize("lines", ["", "nonsense\n"])
def test_a_list_of_groups_of_another_form_is_no_quota(groups: Groups, lines: str) -> None:
    assert groups.quota(lines) == math.inf


def test_no_control_groups_are_no_quota(tmp_path: Path) -> None:
    assert cgroup_quota(tmp_path / "absent", tmp_path) == math.inf


def test_available_cpus_lie_between_one_and_all() -> None:
    assert 1 <= available_cpus() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("affinity", "quota", "cpus"), [(8, math.inf, 8), (8, 2.0, 2), (8, 2.9, 2), (8, 0.5, 1), (2, 16.0, 2)]
)
def test_available_cpus_is_the_smaller_of_affinity_and_quota(
    monkeypatch: pytest.MonkeyPatch, affinity: int, quota: float, cpus: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)), raising=False)
    monkeypatch.setattr(threads, "cgroup_quota", lambda: quota)
    assert available_cpus() == cpus


def test_available_cpus_without_affinity_counts_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    monkeypatch.setattr(threads, "cgroup_quota", lambda: math.inf)
    assert available_cpus() == 6


# The most threads


@pytest.mark.parametrize(("cpus", "most"), [(1, 64), (16, 64), (17, 68), (128, 512)])
def test_the_limit_is_64_threads_or_4_per_cpu(monkeypatch: pytest.MonkeyPatch, cpus: int, most: int) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cpus)
    monkeypatch.setattr(threads, "cgroup_processes", lambda: math.inf)
    monkeypatch.setattr(threads, "_processes_of_the_user", lambda: math.inf)
    assert threads.thread_limit() == most
    assert threads.checked_threads(most) == most
    with pytest.raises(
        ConfigError, match=rf"num_threads is {most + 1}; .* {most} at most on this machine: leave it out"
    ):
        threads.checked_threads(most + 1)


@pytest.mark.parametrize(("group", "user", "most"), [(10, math.inf, 10), (math.inf, 7, 7), (-3, math.inf, 1)])
def test_the_limit_is_never_more_than_the_system_lets_the_process_start(
    monkeypatch: pytest.MonkeyPatch, group: float, user: float, most: int
) -> None:
    monkeypatch.setattr(threads, "cgroup_processes", lambda: group)
    monkeypatch.setattr(threads, "_processes_of_the_user", lambda: user)
    assert threads.thread_limit() == most
    assert available_cpus() <= most


@pytest.mark.parametrize("folder", ["app", "pids/app"])
@pytest.mark.parametrize(("most", "now", "left"), [("100", "30", 70), ("max", "30", math.inf), ("a", "b", math.inf)])
def test_a_cgroup_s_limit_leaves_what_is_not_running(
    groups: Groups, folder: str, most: str, now: str, left: float
) -> None:
    groups.write(f"{folder}/pids.max", f"{most}\n")
    groups.write(f"{folder}/pids.current", f"{now}\n")
    groups.proc.write_text("4:pids:/app\n0::/app\n")
    assert threads.cgroup_processes(groups.proc, groups.root) == left


def test_no_session_gets_more_threads_than_the_limit() -> None:
    with pytest.raises(ConfigError, match="num_threads is 10000"):
        plain_options(10_000)
