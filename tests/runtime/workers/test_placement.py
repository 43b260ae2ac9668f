"""How CPUs are divided: machines of 1 to 64 CPUs, with one or several nodes and threads per core, and quotas."""

from __future__ import annotations

import functools
import math
from collections import Counter
from pathlib import Path

import pytest

from neort.errors import ConfigError
from neort.workers import Share, cpus, described, shares_here
from neort.workers.cpus import listed_cpus, usable_cpus
from neort.workers.placement import Cpu, divided

LAYOUTS = [(1, 1), (1, 2), (2, 1), (2, 2), (4, 2), (8, 1)]  # nodes, and threads of a core


def machine(count: int, nodes: int, siblings: int) -> list[Cpu]:
    """CPUs as Linux numbers them: first threads of all cores, then second ones; nodes as equal as can be."""
    cores = max(1, count // siblings)
    return [Cpu(i, (i % cores) * nodes // cores, i % cores) for i in range(count)]


@functools.cache
def machines() -> list[tuple[list[Cpu], int]]:
    """Machines of 1 to 64 CPUs, each with some numbers of workers."""
    return [
        (machine(count, nodes, siblings), workers)
        for count in range(1, 65)
        for nodes, siblings in LAYOUTS
        if count >= nodes * siblings
        for workers in sorted({1, 2, 3, 4, 7, 16, count // 2, count - 1, count})
        if 1 <= workers <= count
    ]


@functools.cache
def owned() -> list[tuple[list[Cpu], list[list[Cpu]]]]:
    """Machines, and the CPUs that each worker has there; as many as it has threads."""
    found = []
    for known, workers in machines():
        shares = divided(known, workers, quota=math.inf, bind=True)
        assert len(shares) == workers
        assert all(share.cpus is not None and len(share.cpus) == share.threads for share in shares)
        found.append((known, [[known[number] for number in share.cpus or ()] for share in shares]))
    return found


def test_every_cpu_is_one_worker_s_and_every_worker_has_one() -> None:
    for known, owners in owned():
        assert sorted(cpu.number for own in owners for cpu in own) == [cpu.number for cpu in known]
        assert all(owners)


def test_no_worker_reaches_into_another_node_where_each_node_has_one() -> None:
    for known, owners in owned():
        nodes = [{cpu.node for cpu in own} for own in owners]
        if len(owners) >= (count := len({cpu.node for cpu in known})):
            assert all(len(each) == 1 for each in nodes)
        else:
            assert sum(map(len, nodes)) == count  # whole nodes


def test_a_core_is_shared_only_where_a_node_has_more_workers_than_cores() -> None:
    for known, owners in owned():
        cores = Counter(node for node, _ in {(cpu.node, cpu.core) for cpu in known})
        workers = Counter(own[0].node for own in owners)
        shared = [
            core
            for core, count in Counter(core for own in owners for core in {c.core for c in own}).items()
            if count > 1
        ]
        assert all(workers[known[core].node] > cores[known[core].node] for core in shared)


def test_workers_have_equal_numbers_of_cpus_up_to_a_core_where_nodes_are_equal() -> None:
    for known, owners in owned():
        cores, nodes = len({cpu.core for cpu in known}), len({cpu.node for cpu in known})
        if cores % nodes == 0 and len(owners) % nodes == 0 and len(owners) <= cores:
            sizes, siblings = [len(own) for own in owners], Counter(cpu.core for cpu in known)
            assert max(sizes) - min(sizes) <= max(siblings.values())


@pytest.mark.parametrize("quota", [0.5, 1.0, 2.5, 7.0, 31.9])
def test_a_quota_is_never_exceeded_and_holds_nobody_to_single_cpus(quota: float) -> None:
    budget = max(1, int(quota))
    for known, workers in machines():
        if budget >= len(known):
            continue
        found = divided(known, workers, quota=quota, bind=True)
        threads = [share.threads for share in found]
        assert sum(threads) == max(budget, workers)
        assert max(threads) - min(threads) <= 1
        nodes = {node: tuple(cpu.number for cpu in known if cpu.node == node) for node in {cpu.node for cpu in known}}
        for share in found:  # time on any CPU, or on any of a node that has as many
            assert share.cpus is None or (share.cpus in nodes.values() and len(share.cpus) >= share.threads)


@pytest.mark.parametrize("workers", [3, 64])
def test_more_workers_than_cpus_have_a_thread_each_and_are_not_bound(workers: int) -> None:
    assert divided(machine(2, 1, 1), workers, quota=math.inf, bind=True) == (Share(1),) * workers


def test_nodes_of_other_sizes_have_as_many_workers_as_suits_them() -> None:
    known = [Cpu(i, int(i >= 4), i) for i in range(16)]  # 4 CPUs and 12
    found = divided(known, 4, quota=math.inf, bind=True)
    assert [share.threads for share in found] == [4, 4, 4, 4]


def test_where_no_process_can_be_bound_threads_are_divided_all_the_same() -> None:
    found = divided(machine(10, 1, 1), 4, quota=math.inf, bind=False)
    assert found == (Share(3), Share(3), Share(2), Share(2))
    assert described(found) == "4 workers of 2 to 3 threads, not bound to CPUs"


def test_what_is_said_names_cpus_as_linux_does() -> None:
    known = machine(16, 2, 2)
    assert (
        described(divided(known, 2, quota=math.inf, bind=True)) == "2 workers of 8 threads, on CPUs 0-3,8-11; 4-7,12-15"
    )
    assert described(divided(known[:2], 2, quota=math.inf, bind=True)) == "2 workers of 1 thread, on CPUs 0; 1"


# What the system says


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def affinity(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The CPUs that the process may use, which a test may change."""
    allowed = set(range(8))
    monkeypatch.setattr("os.sched_getaffinity", lambda _: allowed, raising=False)
    monkeypatch.setattr("os.sched_setaffinity", lambda *_: None, raising=False)
    return allowed


SYSTEM = {
    "node/node0/cpulist": "0-1,4-5\n",
    "node/node1/cpulist": "2-3,6-7\n",
    "node/nodes": "no node",
    **{f"cpu/cpu{i}/topology/thread_siblings_list": f"{i % 4},{i % 4 + 4}\n" for i in range(8)},
}


def test_nodes_and_cores_come_from_the_system(affinity: set[int], tmp_path: Path) -> None:
    found = usable_cpus(write(tmp_path, SYSTEM))
    assert found is not None
    assert [(cpu.number, cpu.node, cpu.core) for cpu in found] == [
        (0, 0, 0), (4, 0, 0), (1, 0, 1), (5, 0, 1), (2, 1, 2), (6, 1, 2), (3, 1, 3), (7, 1, 3),
    ]  # fmt: skip


def test_cpus_outside_of_the_affinity_are_nobody_s(affinity: set[int], tmp_path: Path) -> None:
    affinity -= {0, 2, 3, 6, 7}
    found = usable_cpus(write(tmp_path, SYSTEM))
    assert found == (Cpu(1, 0, 1), Cpu(5, 0, 1), Cpu(4, 0, 4))


def test_a_system_that_says_nothing_has_one_node_of_single_cores(affinity: set[int], tmp_path: Path) -> None:
    for folder in (tmp_path, write(tmp_path, {"node/node0/cpulist": "a-b", "cpu/cpu1/topology/core_cpus_list": "1-"})):
        assert usable_cpus(folder) == tuple(Cpu(i, 0, i) for i in range(8))


def test_where_processes_cannot_be_bound_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.sched_setaffinity", raising=False)
    monkeypatch.setattr(cpus, "available_cpus", lambda: 6)
    monkeypatch.setattr(cpus, "cgroup_quota", lambda: math.inf)
    assert usable_cpus() is None
    assert shares_here(2) == (Share(3), Share(3))
    assert cpus.suited_workers() == 1
    assert cpus.suited_workers(throughput=True) == 2
    monkeypatch.setattr(cpus, "usable_cpus", lambda: tuple(Cpu(i, i // 2, i) for i in range(8)))  # four nodes
    assert cpus.suited_workers() == cpus.suited_workers(throughput=True) == 4
    monkeypatch.setattr(cpus, "available_cpus", lambda: 3)  # by a quota
    assert cpus.suited_workers() == 3
    monkeypatch.setattr(cpus, "available_cpus", lambda: 1)
    assert cpus.suited_workers(throughput=True) == 1


def test_the_container_s_quota_and_the_callers_threads_count(
    affinity: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpus, "cgroup_quota", lambda: 4.0)
    monkeypatch.setattr(cpus, "usable_cpus", lambda: tuple(machine(8, 1, 1)))
    assert shares_here(2) == (Share(2), Share(2))
    assert shares_here(2, num_threads=3) == (Share(3), Share(3))
    with pytest.raises(ConfigError, match="num_threads is 0"):
        shares_here(2, num_threads=0)
    with pytest.raises(ConfigError, match=r"workers is 100000; .* at most on this machine"):
        shares_here(100_000)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0-3,8\n", [0, 1, 2, 3, 8]), ("5", [5]), ("", []), ("\n", []), ("1-", []), ("-3", []), ("1,x", []), ("²", [])],
)
def test_lists_of_cpus_are_read_or_are_empty(text: str, numbers: list[int]) -> None:
    assert listed_cpus(text) == numbers
