"""The model that comes with neort and its draft in tests/bundles: the text of plain decoding, whoever drafts."""

from __future__ import annotations

from typing import Any

import pytest

import neort
from folders import ROOT

MODEL = ROOT / "models" / "neort_models" / "neo-books"
DRAFT = ROOT / "tests" / "bundles" / "neo-books-draft"


@pytest.fixture(scope="module")
def pair(int8_cache: None) -> tuple[neort.Model, neort.Model]:
    """The model by itself and with its draft; with an int8 cache, whose sums are exact."""
    return neort.load(MODEL, kv_cache="int8"), neort.load(MODEL, kv_cache="int8", draft=DRAFT)


@pytest.mark.parametrize(
    "options", [{"do_sample": False, "repetition_penalty": 1.0}, {"seed": 3}], ids=["greedy", "own"]
)
def test_the_bundled_model_writes_the_same_with_its_draft(
    pair: tuple[neort.Model, neort.Model], options: dict[str, Any]
) -> None:
    plain, drafting = (model.generate("The captain said", max_new_tokens=40, **options) for model in pair)
    assert drafting.token_ids == plain.token_ids
    assert drafting.stats.drafted_tokens > 0
