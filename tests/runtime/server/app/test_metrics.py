"""What Prometheus reads: vLLM's names with our prefix, from what handlers tell and what engines say themselves."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any, cast

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from asgi import Application, FakeHandlers, Stream, ask
from neort.server.app import Settings, create_app
from neort.server.app.metrics import Metrics
from neort.server.handlers import Finished

FIGURES = Finished("length", 10, 5, 4, 0.1, 0.2, 0.3, 0.6, 8, 3)
NAMES = {
    "num_requests_running": "gauge",
    "num_requests_waiting": "gauge",
    "kv_cache_usage_perc": "gauge",
    "prefix_cache_queries": "counter",
    "prefix_cache_hits": "counter",
    "prompt_tokens": "counter",
    "generation_tokens": "counter",
    "request_success": "counter",
    "time_to_first_token_seconds": "histogram",
    "inter_token_latency_seconds": "histogram",
    "e2e_request_latency_seconds": "histogram",
    "request_queue_time_seconds": "histogram",
    "request_prefill_time_seconds": "histogram",
    "request_decode_time_seconds": "histogram",
    "spec_decode_num_draft_tokens": "counter",
    "spec_decode_num_accepted_tokens": "counter",
}


def made(*names: str) -> tuple[Metrics, FakeHandlers]:
    handlers = FakeHandlers(*names)
    handlers.observer = Metrics(cast(Any, handlers.models_))
    return handlers.observer, handlers


def values(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Samples by their names and labels."""
    families = text_string_to_metric_families(metrics.text().decode())
    return {
        (sample.name.removeprefix("neort:"), *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_names_and_kinds_are_vllms() -> None:
    metrics, _ = made()
    kinds = {family.name: family.type for family in text_string_to_metric_families(metrics.text().decode())}
    assert {name: kinds.get(f"neort:{name}") for name in NAMES} == NAMES


def test_every_model_has_its_figures_from_the_beginning() -> None:
    metrics, _ = made("a", "b")
    found = values(metrics)
    for model in ("a", "b"):
        assert found["time_to_first_token_seconds_count", model] == 0
        assert found["generation_tokens_total", model] == 0
        assert found["num_requests_running", model] == 0


def test_what_engines_say_is_read_when_somebody_asks() -> None:
    metrics, handlers = made("a")
    model = handlers.models_[0].model
    model.engine_figures = dataclasses.replace(
        model.engine_figures,
        running=3,
        prefilling=1,
        waiting=7,
        cache_bytes=25,
        max_cache_bytes=100,
        prefix_queries=50,
        prefix_hits=20,
        drafted=9,
        accepted=6,
    )
    found = values(metrics)
    assert found["num_requests_running", "a"] == 4
    assert found["num_requests_waiting", "a"] == 7
    assert found["kv_cache_usage_perc", "a"] == 0.25
    assert (found["prefix_cache_queries_total", "a"], found["prefix_cache_hits_total", "a"]) == (50, 20)
    assert found["spec_decode_num_draft_tokens_total", "a"] == 9
    assert found["spec_decode_num_accepted_tokens_total", "a"] == 6


def test_what_handlers_tell_is_counted() -> None:
    metrics, _ = made("a")
    metrics.request_started("a")
    metrics.first_token("a", 0.25)
    for seconds in (0.01, 0.02, -1e-9):
        metrics.token_gap("a", seconds)
    metrics.finished("a", FIGURES)
    metrics.failed("a", 499)
    metrics.request_ended("a")
    found = values(metrics)
    assert found["time_to_first_token_seconds_sum", "a"] == 0.25
    assert found["inter_token_latency_seconds_count", "a"] == 3
    assert found["e2e_request_latency_seconds_sum", "a"] == 0.6
    assert found["request_queue_time_seconds_sum", "a"] == 0.1
    assert found["request_prefill_time_seconds_sum", "a"] == 0.2
    assert found["request_decode_time_seconds_sum", "a"] == 0.3
    assert (found["prompt_tokens_total", "a"], found["generation_tokens_total", "a"]) == (10, 5)
    assert found["request_success_total", "length", "a"] == 1
    assert found["request_failure_total", "a", "499"] == 1


def test_answers_are_counted_by_route_and_no_client_can_make_up_names() -> None:
    metrics, handlers = made()
    app = cast(Application, create_app(cast(Any, handlers), Settings()))

    async def scenario() -> None:
        await ask(app, "GET", "/v1/models/some/name")
        await ask(app, "GET", "/made-up")
        await ask(app, "MADEUP", "/made-up")
        await ask(app, "MADEUP", "/health")
        handlers.work = Stream([])
        await ask(app, "POST", "/v1/completions", {})

    asyncio.run(scenario())
    found = {key[1:]: value for key, value in values(metrics).items() if key[0] == "http_requests_total"}
    assert found == {
        ("GET", "/v1/models/{model}", "200"): 1,
        ("other", "other", "404"): 2,
        ("other", "/health", "405"): 1,
        ("POST", "/v1/completions", "200"): 1,
    }


def test_the_metrics_route_gives_them() -> None:
    _, handlers = made()
    app = cast(Application, create_app(cast(Any, handlers), Settings()))
    found = asyncio.run(ask(app, "GET", "/metrics"))
    assert found.fields["content-type"].startswith("text/plain; version=0.0.4")
    assert b'neort:num_requests_running{model_name="fake"} 0.0' in found.body
    assert b"process_resident_memory_bytes" in found.body


def test_nothing_goes_to_the_registry_that_all_share() -> None:
    before = {metric.name for metric in REGISTRY.collect()}
    made("a")
    made("a")
    assert {metric.name for metric in REGISTRY.collect()} == before
