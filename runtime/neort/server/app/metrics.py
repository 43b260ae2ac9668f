"""Figures for Prometheus: vLLM's names with the prefix ``neort:``, so that its dashboards need one replacement.

What requests do is counted as handlers tell it; what engines do is read from them whenever somebody asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ...engine import EngineFigures
from ..handlers import Finished, ServedModel

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "neort:"
FIRST_TOKEN = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
BETWEEN_TOKENS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
REQUEST = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0),
    *(60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
HISTOGRAMS = {
    "time_to_first_token_seconds": ("From a request's arrival to its first token.", FIRST_TOKEN),
    "inter_token_latency_seconds": ("Between two tokens of a sequence.", BETWEEN_TOKENS),
    "e2e_request_latency_seconds": ("From a request's arrival to a sequence's end.", REQUEST),
    "request_queue_time_seconds": ("A sequence's wait for a slot.", REQUEST),
    "request_prefill_time_seconds": ("What reading a prompt took.", REQUEST),
    "request_decode_time_seconds": ("From a sequence's first token to its last.", REQUEST),
}
GAUGES: dict[str, tuple[str, Callable[[EngineFigures], float]]] = {
    "num_requests_running": ("Sequences that are read or written.", lambda now: now.running + now.prefilling),
    "num_requests_waiting": ("Sequences that wait for a slot.", lambda now: now.waiting),
    "kv_cache_usage_perc": (
        "Share of max_cache_bytes that is taken, 0 to 1; 0 without a limit.",
        lambda now: now.cache_bytes / now.max_cache_bytes if now.max_cache_bytes else 0.0,
    ),
    "kv_cache_bytes": ("Memory of keys and values of running sequences.", lambda now: now.cache_bytes),
}
COUNTERS: dict[str, tuple[str, Callable[[EngineFigures], float]]] = {
    "prefix_cache_queries": ("Prompt tokens that were looked up among kept prefixes.", lambda now: now.prefix_queries),
    "prefix_cache_hits": ("Prompt tokens that were found there.", lambda now: now.prefix_hits),
    "spec_decode_num_draft_tokens": ("Tokens that a draft proposed.", lambda now: now.drafted),
    "spec_decode_num_accepted_tokens": ("Tokens of a draft that the model took.", lambda now: now.accepted),
}


class Metrics:
    """An `Observer` that counts, and the text that Prometheus reads."""

    def __init__(self, models: Sequence[ServedModel]) -> None:
        """``models`` have their figures from the beginning, as zeros."""
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(_Engines(models))
        self._seconds = {
            name: Histogram(PREFIX + name, text, ["model_name"], registry=self._registry, buckets=buckets)
            for name, (text, buckets) in HISTOGRAMS.items()
        }
        self._prompt = self._counter("prompt_tokens", "Tokens of prompts whose sequences came to their end.")
        self._generated = self._counter("generation_tokens", "Tokens of sequences that came to their end.")
        self._finished = self._counter("request_success", "Sequences that came to their end.", "finished_reason")
        self._failed = self._counter("request_failure", "Requests that ended with an error.", "status")
        self._answers = Counter(
            PREFIX + "http_requests", "Answers to HTTP requests.", ["method", "path", "status"], registry=self._registry
        )
        for each in models:
            for family in (*self._seconds.values(), self._prompt, self._generated):
                family.labels(each.name)

    def families(self) -> list[Metric]:
        """The figures now, for a process that adds up those of several."""
        return list(self._registry.collect())

    def text(self) -> bytes:
        """The figures now, in Prometheus's text format."""
        return generate_latest(self._registry)

    def answered(self, method: str, path: str, status: int) -> None:
        """Count an answer; ``path`` is one of the routes, not what the client wrote."""
        self._answers.labels(method, path, str(status)).inc()

    def request_started(self, model: str) -> None:
        """See `Observer`."""

    def first_token(self, model: str, seconds: float) -> None:
        """See `Observer`."""
        self._observe("time_to_first_token_seconds", model, seconds)

    def token_gap(self, model: str, seconds: float) -> None:
        """See `Observer`."""
        self._observe("inter_token_latency_seconds", model, seconds)

    def finished(self, model: str, figures: Finished) -> None:
        """See `Observer`."""
        self._observe("e2e_request_latency_seconds", model, figures.e2e_seconds)
        self._observe("request_queue_time_seconds", model, figures.queue_seconds)
        self._observe("request_prefill_time_seconds", model, figures.prefill_seconds)
        self._observe("request_decode_time_seconds", model, figures.decode_seconds)
        self._prompt.labels(model).inc(figures.prompt_tokens)
        self._generated.labels(model).inc(figures.completion_tokens)
        self._finished.labels(model, figures.reason).inc()

    def failed(self, model: str, status: int) -> None:
        """See `Observer`."""
        self._failed.labels(model, str(status)).inc()

    def request_ended(self, model: str) -> None:
        """See `Observer`."""

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(PREFIX + name, text, ["model_name", *labels], registry=self._registry)

    def _observe(self, name: str, model: str, seconds: float) -> None:
        self._seconds[name].labels(model).observe(max(seconds, 0.0))


class _Engines(Collector):
    """The figures that engines keep themselves."""

    def __init__(self, models: Sequence[ServedModel]) -> None:
        self._models = models

    def collect(self) -> Iterator[Metric]:
        figures = [(each.name, each.model.engine_figures) for each in self._models]
        for name, (text, value) in GAUGES.items():
            yield _family(GaugeMetricFamily(PREFIX + name, text, labels=["model_name"]), figures, value)
        for name, (text, value) in COUNTERS.items():
            yield _family(CounterMetricFamily(PREFIX + name, text, labels=["model_name"]), figures, value)


def _family(
    family: GaugeMetricFamily | CounterMetricFamily,
    figures: Sequence[tuple[str, EngineFigures]],
    value: Callable[[EngineFigures], float],
) -> Metric:
    for model, now in figures:
        family.add_metric([model], value(now))
    return family
