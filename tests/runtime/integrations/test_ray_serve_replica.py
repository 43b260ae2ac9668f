"""A replica of Ray Serve without Ray around it, its arguments, and what is said where Ray is missing."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from asgi import Asked, Message, ask
from missing import run_without
from neort import ArgumentTypeError, ConfigError, EngineError
from patience import PATIENCE
from published import laid
from releases import QUIET

KEY = "a-key-of-a-test-0123456789"


@pytest.fixture(scope="module")
def ray_serve() -> Any:
    """The integration; skips where Ray is missing."""
    pytest.importorskip("ray.serve")
    from neort.integrations import ray_serve

    return ray_serve


def test_without_ray_a_program_gets_a_missing_extra_error() -> None:
    done = run_without(("ray",), "import neort.integrations.ray_serve")
    expected = "neort.errors.MissingExtraError: Ray Serve needs ray, which is not installed; get it by: pip install"
    assert done.stderr.splitlines()[-1].startswith(expected)


@pytest.mark.parametrize(("before", "after"), [(None, "0"), ("1", "1")])
def test_ray_reports_its_use_only_where_the_environment_says_so(before: str | None, after: str) -> None:
    program = "import os; from neort.integrations.ray_settings import keep_quiet as f; f(); print(os.environ[NAME])"
    environment = {name: value for name, value in os.environ.items() if name != "RAY_USAGE_STATS_ENABLED"}
    if before is not None:
        environment["RAY_USAGE_STATS_ENABLED"] = before
    command = [sys.executable, *QUIET, "-c", f"NAME = 'RAY_USAGE_STATS_ENABLED'; {program}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True, env=environment)
    assert done.stdout.strip() == after


# Arguments


def test_texts_stand_for_the_values_that_a_file_would_give(ray_serve: Any) -> None:
    texts = {"num_threads": "4", "timeout": "1.5", "insecure": "True", "name": "7", "max_replicas": "3"}
    values = {"num_threads": 4, "timeout": 1.5, "insecure": True, "name": "7", "max_replicas": 3}
    assert ray_serve.ServeOptions.read(texts) == ray_serve.ServeOptions.read(values)
    assert ray_serve.ServeOptions.read(values) == ray_serve.ServeOptions(**values)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (
            {"num_thread": 2},
            ArgumentTypeError,
            "there is no argument 'num_thread'; there are bundle, name",
        ),
        ({"num_threads": "two"}, ArgumentTypeError, "num_threads is 'two'; it must be a whole number"),
        ({"num_threads": 2.5}, ArgumentTypeError, "num_threads is 2.5; it must be a whole number"),
        ({"num_threads": True}, ArgumentTypeError, "num_threads is True; it must be a whole number"),
        ({"insecure": "yes"}, ArgumentTypeError, "insecure is 'yes'; it must be true or false"),
        ({"num_threads": 0}, ConfigError, "num_threads is 0; it must be 1 at least"),
        ({"max_queue": -1}, ConfigError, "max_queue is -1; it must be 0 at least"),
        ({"timeout": "nan"}, ConfigError, "timeout is nan; it must be a number from 0 on"),
        ({"target_ongoing_requests": "0"}, ConfigError, "target_ongoing_requests is 0; it must be more than 0"),
        ({"replicas": 3, "max_replicas": 2}, ConfigError, "max_replicas is 2 and replicas is 3"),
        ({"insecure": "false"}, ConfigError, "there are no keys, and a replica does not know who reaches Ray's"),
    ],
)
def test_arguments_of_no_use_are_refused_in_a_sentence(
    ray_serve: Any, given: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as raised:
        ray_serve.build({"insecure": "true"} | given)
    assert str(raised.value).startswith(words)


def test_every_argument_is_described(ray_serve: Any) -> None:
    for field in dataclasses.fields(ray_serve.ServeOptions):
        assert f"\n        {field.name}: " in ray_serve.ServeOptions.__doc__


# A replica


def asked(replica: Any, method: str, path: str, body: Any = b"", **fields: str) -> Asked:
    """What the client of Ray's proxy gets from a replica."""
    from starlette.requests import Request

    async def application(scope: Message, receive: Any, send: Any) -> None:
        await (await replica(Request(scope, receive, send)))(scope, receive, send)

    return asyncio.run(ask(application, method, path, body, {"host": "10.0.0.7", **fields}))


def test_a_replica_with_keys_lets_nobody_else_in(ray_serve: Any, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(KEY)
    keys.chmod(0o600)
    replica = ray_serve.Replica(ray_serve.ServeOptions(api_key_file=str(keys), num_threads=1))
    assert asked(replica, "GET", "/v1/models").status == 401
    assert asked(replica, "GET", "/v1/models", authorization=f"Bearer {KEY}").status == 200
    assert asked(replica, "GET", "/health").status == 200


def test_a_replica_serves_what_was_pulled_under_its_name(
    ray_serve: Any, bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    name = laid(tmp_path, bundle_path)
    replica = ray_serve.Replica(ray_serve.ServeOptions(bundle=name, insecure=True, num_threads=1))
    assert [*replica._handlers.served] == [name]


def test_a_replica_whose_engine_has_failed_is_unhealthy_and_says_so_to_clients(ray_serve: Any) -> None:
    replica = ray_serve.Replica(ray_serve.ServeOptions(insecure=True, num_threads=1))
    asyncio.run(replica.check_health())
    [served] = replica._handlers.served.values()

    def fail() -> None:
        raise RuntimeError("no more")

    served.model._engine.core.step = fail
    body = {"prompt": "a", "max_tokens": 2}
    assert asked(replica, "POST", "/v1/completions", body).status == 500
    with pytest.raises(EngineError, match=r"the model neo-mini has failed .*; this replica is to be replaced"):
        asyncio.run(replica.check_health())
    later = asked(replica, "POST", "/v1/completions", body)
    assert (later.status, later.error["type"]) == (503, "overloaded_error")


def test_a_chat_template_is_read_and_a_missing_one_named(ray_serve: Any, tmp_path: Path) -> None:
    template = tmp_path / "template.jinja"
    template.write_text("{{ messages[0].content }}")
    replica = ray_serve.Replica(ray_serve.ServeOptions(insecure=True, num_threads=1, chat_template=str(template)))
    body = {"messages": [{"role": "user", "content": "Once upon a time"}], "max_tokens": 2}
    assert asked(replica, "POST", "/v1/chat/completions", body).status == 200
    with pytest.raises(ConfigError, match=r"nowhere cannot be read \(No such file or directory\)"):
        ray_serve.Replica(ray_serve.ServeOptions(insecure=True, num_threads=1, chat_template="nowhere"))
