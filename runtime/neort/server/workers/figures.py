"""Figures of several processes as those of one server: sums, with a label where a sum would mean nothing.

What a worker that has ended had counted stays in the sums, as of the last time that somebody asked, so that counters
never go back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, generate_latest
from prometheus_client.core import Metric
from prometheus_client.samples import Sample

from ..app.metrics import PREFIX

__all__ = ["Figures"]

PROCESS = "process_"  # names of figures that a process has of itself
PARENT = "main"
SHARES = (f"{PREFIX}kv_cache_usage_perc",)  # of limits that are the same for all
COUNTED = ("counter", "histogram")

Labels = tuple[tuple[str, str], ...]


class Figures:
    """The figures that workers told last, and what follows from them."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._workers = Gauge(f"{PREFIX}workers", "Processes that take requests.", registry=self._registry)
        self._followed = Counter(
            f"{PREFIX}worker_restarts", "Processes that ended and were followed by others.", registry=self._registry
        )
        self._told: dict[int, Sequence[Metric]] = {}
        self._past: list[Metric] = []

    def note(self, worker: int, families: Sequence[Metric]) -> None:
        """Note what a worker has told."""
        self._told[worker] = families

    def note_end(self, worker: int) -> None:
        """Note that a worker has ended."""
        counted = [each for each in self._told.pop(worker, ()) if each.type in COUNTED and not _of_process(each)]
        self._past = added([self._past, counted])

    def note_follower(self) -> None:
        """Note that a worker has taken the place of one that has ended."""
        self._followed.inc()

    def text(self, workers: int) -> bytes:
        """All figures in Prometheus's text format; so many ``workers`` take requests."""
        self._workers.set(workers)
        own = [*self._registry.collect()]
        by_worker = {**{str(number): told for number, told in sorted(self._told.items())}, PARENT: own}
        of_all = [[each for each in families if not _of_process(each)] for families in by_worker.values()]
        labelled = [
            _labelled(each, number) for number, families in by_worker.items() for each in families if _of_process(each)
        ]
        collected: Any = _Collected([*added([*of_all, self._past]), *added([labelled])])
        return generate_latest(collected)


def added(sources: Iterable[Iterable[Metric]]) -> list[Metric]:
    """Families with the same name as one, and samples with the same labels as their sum.

    Of times of creation the earliest is meant, and of shares the mean.
    """
    families: dict[str, list[Metric]] = {}
    for source in sources:
        for family in source:
            families.setdefault(family.name, []).append(family)
    return [_sum(same) for same in families.values()]


def _sum(families: Sequence[Metric]) -> Metric:
    first = families[0]
    values: dict[tuple[str, Labels], list[float]] = {}
    for family in families:
        for sample in family.samples:
            values.setdefault((sample.name, (*sample.labels.items(),)), []).append(sample.value)
    whole = Metric(first.name, first.documentation, first.type, first.unit)
    whole.samples = [Sample(name, dict(labels), _of_all(name, found)) for (name, labels), found in values.items()]
    return whole


def _of_all(name: str, values: Sequence[float]) -> float:
    if name.endswith("_created"):
        return min(values)
    return sum(values) / len(values) if name in SHARES else sum(values)


def _of_process(family: Metric) -> bool:
    return family.name.startswith(PROCESS)


def _labelled(family: Metric, worker: str) -> Metric:
    """The family with the label ``worker``."""
    labelled = Metric(family.name, family.documentation, family.type, family.unit)
    labelled.samples = [each._replace(labels={**each.labels, "worker": worker}) for each in family.samples]
    return labelled


class _Collected:
    """What `generate_latest` takes for a registry."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families
