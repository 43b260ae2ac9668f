"""The pages show what the model that comes with neort writes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def model_of_the_wheel() -> Iterator[None]:
    """Undoes what tests/conftest.py bundles."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("NEORT_MODEL", raising=False)
        yield
