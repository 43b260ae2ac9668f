"""One server for all clients."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from served import Served, serving


@pytest.fixture(scope="package", autouse=True)
def extra() -> None:
    """Skips where the server's own packages are not installed."""
    for package in ("starlette", "uvicorn", "prometheus_client"):
        pytest.importorskip(package)


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A real server of the bundled model. Tests share it, so they must leave no request running."""
    with serving(tmp_path_factory.mktemp("served")) as served:
        yield served
