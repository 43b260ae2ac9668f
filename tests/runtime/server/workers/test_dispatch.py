"""Who gets a connection: a server of 1 to 64 workers, simulated, with the code that chooses."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from neort.server.workers.member import MOST_UNTAKEN, Member, least_busy


@dataclass
class Simulated:
    """What a member shows of itself."""

    number: int
    takes: bool = True
    at_work: int = 0
    open: int = 0
    untaken: list[Any] = field(default_factory=list)

    burden = Member.burden
    has_room = Member.has_room


def choose(members: list[Simulated]) -> Simulated | None:
    return cast("Simulated | None", least_busy(cast(Any, members)))


@pytest.mark.parametrize("workers", [1, 2, 3, 8, 33, 64])
def test_clients_that_come_at_once_are_spread_evenly(workers: int) -> None:
    members = [Simulated(i) for i in range(workers)]
    for _ in range(5 * workers):
        member = choose(members)
        assert member is not None
        member.at_work += 1
        member.open += 1
    assert {member.at_work for member in members} == {5}


@pytest.mark.parametrize("workers", [1, 2, 3, 8, 33, 64])
def test_no_worker_has_two_requests_more_than_another_when_it_gets_one(workers: int) -> None:
    """Requests of very different lengths come and go, for 5,000 arrivals."""
    source, members = random.Random(workers), [Simulated(i) for i in range(workers)]
    ends: list[tuple[float, int]] = []
    now, served = 0.0, Counter[int]()
    for _ in range(5000):
        now += source.expovariate(workers)  # about 8 at work for each worker
        while ends and ends[0][0] <= now:
            members[heapq.heappop(ends)[1]].at_work -= 1
        member = choose(members)
        assert member is not None
        assert member.at_work == min(each.at_work for each in members)
        member.at_work += 1
        served[member.number] += 1
        heapq.heappush(ends, (now + source.lognormvariate(1.5, 1.0), member.number))
    assert len(served) == workers


def test_idle_connections_count_where_work_is_equal() -> None:
    members = [Simulated(0, open=9), Simulated(1, open=2), Simulated(2, open=0, at_work=1)]
    assert choose(members) is members[1]


def test_a_worker_that_leaves_connections_where_they_are_or_takes_none_gets_none() -> None:
    members = [Simulated(0, takes=False), Simulated(1, untaken=[None] * MOST_UNTAKEN), Simulated(2, at_work=99)]
    assert choose(members) is members[2]
    assert choose(members[:2]) is None
    assert choose([]) is None
