"""Figures of several processes: sums that never go back, and a label where a sum would mean nothing."""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any, cast

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from prometheus_client.parser import text_string_to_metric_families

from asgi import FakeHandlers
from neort.server.app.metrics import Metrics
from neort.server.handlers import Finished
from neort.server.workers.figures import Figures

FIGURES = Finished("length", 10, 5, 4, 0.1, 0.2, 0.3, 0.6, 8, 3)


def worker(running: int = 0, share: int = 0) -> tuple[Metrics, FakeHandlers]:
    """A worker's figures, with so many sequences that run and so many hundredths of its cache taken."""
    handlers = FakeHandlers("a")
    model = handlers.models_[0].model
    model.engine_figures = dataclasses.replace(
        model.engine_figures, running=running, cache_bytes=share, max_cache_bytes=100, prefix_hits=running
    )
    return Metrics(cast(Any, handlers.models_)), handlers


def tell(figures: Figures, number: int, metrics: Metrics) -> None:
    figures.note(number, pickle.loads(pickle.dumps(metrics.families())))


def values(figures: Figures, workers: int = 2) -> dict[tuple[str, ...], float]:
    families = [*text_string_to_metric_families(figures.text(workers).decode())]
    assert len({family.name for family in families}) == len(families)
    return {
        (sample.name.removeprefix("neort:"), *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_counts_and_what_runs_are_sums_over_all_workers_and_shares_are_means() -> None:
    figures = Figures()
    for number, (running, share) in enumerate([(3, 50), (4, 100)]):
        metrics, _ = worker(running, share)
        metrics.finished("a", FIGURES)
        metrics.answered("GET", "/health", 200)
        tell(figures, number, metrics)
    found = values(figures)
    assert found["num_requests_running", "a"] == 7
    assert found["kv_cache_bytes", "a"] == 150
    assert found["kv_cache_usage_perc", "a"] == 0.75
    assert found["prefix_cache_hits_total", "a"] == 7
    assert found["generation_tokens_total", "a"] == 10
    assert found["request_success_total", "length", "a"] == 2
    assert found["http_requests_total", "GET", "/health", "200"] == 2
    assert found["e2e_request_latency_seconds_count", "a"] == 2
    assert found["e2e_request_latency_seconds_bucket", "0.5", "a"] == 0
    assert found["e2e_request_latency_seconds_bucket", "0.8", "a"] == 2
    assert found["workers",] == 2


def test_what_a_process_says_of_itself_has_its_worker_for_a_label() -> None:
    figures = Figures()
    for number in range(2):
        tell(figures, number, worker()[0])
    memory = {key[1] for key in values(figures) if key[0] == "process_resident_memory_bytes"}
    assert memory in ({"0", "1", "main"}, set())  # where the system does not tell


def test_a_worker_s_counts_stay_when_it_ends_and_its_follower_adds_to_them() -> None:
    figures = Figures()
    for number in range(2):
        metrics, _ = worker(running=2)
        metrics.finished("a", FIGURES)
        tell(figures, number, metrics)
    before = values(figures)
    for ends in (1, 2):
        figures.note_end(1)
        after = values(figures, workers=1)
        assert after["generation_tokens_total", "a"] == before["generation_tokens_total", "a"] + 5 * (ends - 1)
        assert after["num_requests_running", "a"] == 2  # gauges are of those that are there
        assert after["worker_restarts_total",] == ends - 1
        figures.note_follower()
        assert values(figures, workers=1)["worker_restarts_total",] == ends
        assert after["workers",] == 1
        follower, _ = worker(running=1)
        follower.finished("a", FIGURES)
        tell(figures, 1, follower)
        assert values(figures)["generation_tokens_total", "a"] == 10 + 5 * ends
    assert values(figures)["e2e_request_latency_seconds_sum", "a"] == pytest.approx(4 * 0.6)


def test_a_worker_that_ends_before_it_was_ever_asked_leaves_nothing() -> None:
    figures = Figures()
    tell(figures, 0, worker()[0])
    figures.note_end(1)
    assert values(figures)["generation_tokens_total", "a"] == 0
