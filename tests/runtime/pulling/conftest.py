"""A hub on loopback with one repository, an empty cache, and pulls that tell what they were told."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from loopback_hub import Hub, Repository, running_hub
from neort.hub import CachedRepository
from published import bundle_files, in_folders
from pulls import NAME, Puller


@pytest.fixture(scope="session")
def server() -> Iterator[Hub]:
    with running_hub() as hub:
        yield hub


@pytest.fixture
def hub(server: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    """A hub with one repository of one bundle; the environment names it, and an empty cache."""
    for variable in [name for name in os.environ if name.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))]:
        monkeypatch.delenv(variable)
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.lower(), raising=False)
    monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NEORT_CACHE", str(tmp_path / "own"))
    server.repositories = {NAME: Repository(in_folders(int8=bundle_files()))}
    server.requests, server.breaks, server.pages = [], [], {}
    server.fault = lambda server, path, asked: None
    return server


@pytest.fixture
def puller(hub: Hub, tmp_path: Path) -> Puller:
    return Puller(CachedRepository(tmp_path / "home" / "hub", "models--owner--tiny"))
