"""The bundled model, and free ports."""

from __future__ import annotations

from pathlib import Path

import pytest

import neort
from neort.bundle import bundled_path


@pytest.fixture(scope="session")
def bundle_path() -> Path:
    """Folder of the bundled model; not to be written to."""
    return bundled_path()


@pytest.fixture(scope="session")
def model(bundle_path: Path) -> neort.Model:
    """The bundled model. Tests share it, so they must leave no sequence running."""
    return neort.load(bundle_path, num_threads=2)
