"""Ray Serve on a cluster of two nodes, asked by OpenAI's client: texts, refusals, restarts and growth."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

import neort
from patience import PATIENCE
from ray_cluster import two_nodes

openai = pytest.importorskip("openai")
serve = pytest.importorskip("ray.serve")
pytestmark = pytest.mark.filterwarnings("ignore")  # what other projects warn of is theirs

PROMPT = "It was a dark night and"
MODEL = "demo"
SLOTS, QUEUE, REPLICAS = 2, 2, 2
LONG = 400  # tokens
OPTIONS: dict[str, Any] = {"name": MODEL, "insecure": "true", "num_threads": "1", "max_replicas": str(REPLICAS)} | {
    "target_ongoing_requests": "1",
    "upscale_delay": "0",
    "max_batch_size": str(SLOTS),
    "max_queue": str(QUEUE),
}


@dataclass(frozen=True)
class Deployed:
    """Replicas that run, and the client that asks them."""

    url: str
    client: Any
    first_statuses: list[int]
    replicas: list[int]
    """How many there were before there were requests, and afterwards."""

    def complete(self, **options: Any) -> Any:
        given = {"model": MODEL, "prompt": PROMPT, "max_tokens": 8, "temperature": 0}
        return self.client.completions.create(**given | options)

    def loaded(self) -> set[int]:
        """When the models were loaded of the replicas that answer, in seconds since 1970."""
        return {self.client.models.list().data[0].created for _ in range(10)}

    def metrics(self) -> str:
        """Those of one replica."""
        with urllib.request.urlopen(f"{self.url}/metrics") as answer:
            return str(answer.read().decode())


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Where the proxy of a cluster listens that has no application yet."""
    with pytest.MonkeyPatch.context() as patch, socket.socket() as taken:
        patch.setenv("RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S", "0.5")
        with two_nodes():
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
            taken.close()
            serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
            yield f"http://127.0.0.1:{port}"
            serve.shutdown()


@pytest.fixture(scope="module")
def deployed(url: str) -> Iterator[Deployed]:
    """A replica, and another one once there are requests. Tests share them, so they must leave no request running."""
    statuses: list[int] = []
    asking = threading.Thread(target=lambda: statuses.extend(statuses_until_one_is_good(f"{url}/ready")))
    asking.start()
    deploy()
    asking.join()
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=PATIENCE) as client:
        found = Deployed(url, client, statuses, [running()])
        with asked_all_the_time(found, 3):
            until(lambda: running() > 1)
        found.replicas.append(running())
        yield found


def deploy(**options: Any) -> None:
    """Deploy, or deploy again, and wait until it is done."""
    from neort.integrations.ray_serve import build

    serve.run(build(OPTIONS | options))


def statuses_until_one_is_good(url: str) -> list[int]:
    found: list[int] = []
    while not found or found[-1] != 200:
        try:
            with urllib.request.urlopen(url) as answer:
                found.append(answer.status)
        except urllib.error.HTTPError as error:
            found.append(error.code)
    return found


def running() -> int:
    """How many replicas take requests."""
    return int(serve.status().applications["default"].deployments["neort"].replica_states.get("RUNNING", 0))


def until(reached: Callable[[], object]) -> None:
    """Wait until something holds."""
    end = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < end, "it was waited for in vain"
        time.sleep(0.02)


@contextlib.contextmanager
def asked_all_the_time(deployed: Deployed, count: int) -> Iterator[Counter[str]]:
    """So many threads ask one request after the other. Yields how often which answer came."""
    answers: Counter[str] = Counter()
    stop = threading.Event()

    def ask(stream: bool) -> None:
        while not stop.is_set():
            try:
                found = deployed.complete(max_tokens=32, stream=stream)
                text = "".join(each.choices[0].text for each in (found if stream else [found]))
            except openai.OpenAIError as error:
                text = repr(error)
            answers[text] += 1

    threads = [threading.Thread(target=ask, args=(i % 2 == 0,)) for i in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_requests_that_come_while_models_are_loaded_wait_for_them(deployed: Deployed) -> None:
    """Before there is an application Ray itself answers, with 404."""
    assert set(deployed.first_statuses) <= {404, 200}


def test_there_are_more_replicas_once_there_are_more_requests(deployed: Deployed) -> None:
    assert deployed.replicas == [1, REPLICAS]


def test_texts_are_the_models_whichever_replica_gives_them(deployed: Deployed, model: neort.Model) -> None:
    sampling: dict[str, Any] = {"temperature": 0.8, "top_p": 0.9, "seed": 7}
    plain = model.generate(PROMPT, max_new_tokens=8).text
    sampled = model.generate(PROMPT, max_new_tokens=8, do_sample=True, top_k=None, **sampling).text
    assert {deployed.complete().choices[0].text for _ in range(6)} == {plain}
    assert {deployed.complete(**sampling).choices[0].text for _ in range(6)} == {sampled}


def test_a_stream_comes_while_it_is_made(deployed: Deployed, model: neort.Model) -> None:
    began = time.perf_counter()
    pieces, times = [], []
    for chunk in deployed.complete(max_tokens=LONG, stream=True):
        pieces.append(chunk.choices[0].text)
        times.append(time.perf_counter() - began)
    assert "".join(pieces) == model.generate(PROMPT, max_new_tokens=LONG).text
    assert times[0] < times[-1] / 2


def test_an_error_has_the_servers_form_and_a_request_one_id(deployed: Deployed) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        deployed.complete(model="another")
    assert raised.value.body["code"] == "model_not_found"
    raw = deployed.client.with_options(default_headers={"X-Request-Id": "mine"}).models.with_raw_response.list()
    assert raw.headers["x-request-id"] == "mine"


def test_requests_beyond_the_queues_are_refused_at_once_and_the_others_served(deployed: Deployed) -> None:
    answered, refused = [], []

    def ask() -> None:
        try:
            answered.append(deployed.complete(max_tokens=LONG).choices[0].text)
        except openai.RateLimitError as error:
            refused.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3 * REPLICAS * (SLOTS + QUEUE))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answered) + len(refused) == len(threads)
    assert len(answered) > SLOTS + QUEUE  # which is what a single replica takes
    assert len(set(answered)) == 1
    for error in refused:
        assert error.body["type"] == "rate_limit_error"
        assert error.response.headers["retry-after"] == "1"
    assert refused


def test_a_client_that_leaves_frees_its_slot(deployed: Deployed) -> None:
    with deployed.complete(max_tokens=LONG, stream=True) as stream:
        next(iter(stream))

    def left() -> bool:
        found = deployed.metrics()
        gone = f'neort:request_failure_total{{model_name="{MODEL}",status="499"}} 1.0\n'
        return gone in found and f'neort:num_requests_running{{model_name="{MODEL}"}} 0.0\n' in found

    until(left)


def test_replicas_are_replaced_without_a_failed_request(deployed: Deployed, model: neort.Model) -> None:
    until(lambda: time.time() > max(deployed.loaded()) + 1)
    with asked_all_the_time(deployed, 4) as answers:
        before = int(time.time())
        deploy(release="2")
        assert min(deployed.loaded()) >= before
    assert set(answers) == {model.generate(PROMPT, max_new_tokens=32).text}
