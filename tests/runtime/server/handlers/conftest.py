"""Handlers of the bundled model, asked without a socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import neort
from handler_calls import answer, run
from neort.server.handlers import Handlers, Limits, ServedModel
from neort.server.protocol import RequestError, as_request_error

Ask = Callable[..., Any]


@pytest.fixture(scope="session")
def handlers(model: neort.Model) -> Iterator[Handlers]:
    """The bundled model as "mini", the first one, and again as "other"."""
    served = [ServedModel("mini", model, 1_700_000_000), ServedModel("other", model, 1_700_000_001)]
    handlers = Handlers(served, Limits(max_prompts=8, max_choices=8))
    yield handlers
    run(handlers.close())


@pytest.fixture
def ask(handlers: Handlers) -> Ask:
    """Asks `handlers` and waits for the answer: a body, or a list of chunks."""
    return lambda route, payload, **facts: run(answer(handlers, route, payload, **facts))


@pytest.fixture
def refused(ask: Ask) -> Callable[..., RequestError]:
    """Asks, and returns the error as a client is told it."""

    def asked(route: str, payload: object, **facts: Any) -> RequestError:
        try:
            ask(route, payload, **facts)
        except Exception as error:
            return as_request_error(error)
        raise AssertionError(f"{payload} was answered")

    return asked
