"""Which tokens an export is calibrated and verified on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from neort.bundle import bundled_path
from neort.tokenizer import Tokenizer
from neort_export import ExportError
from neort_export.architectures import Dimensions
from neort_export.verification.texts import Texts

SMALL = Dimensions(
    vocab_size=50257,
    hidden_size=768,
    intermediate_size=3072,
    num_layers=12,
    num_heads=12,
    max_position_embeddings=2048,
    window_size=256,
    attention_layers=("global", "local") * 6,
)
LARGE = replace(SMALL, hidden_size=2048, num_layers=24)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(bundled_path() / "tokenizer.json")


def test_a_small_model_gets_all_tokens_and_a_large_one_a_sequence_past_twice_the_window(tokenizer: Tokenizer) -> None:
    small, large = Texts(tokenizer, SMALL), Texts(tokenizer, LARGE)
    assert {len(ids) for ids in (*small.verification, *large.verification, *large.calibration)} == {2 * 256 + 40}
    assert [len(small.verification), len(large.verification), len(large.calibration)] == [3, 1, 1]
    assert large.golden_positions() == [0, 255, 256, 257, 512, 513, 551]


def test_sequences_fit_the_context(tokenizer: Tokenizer) -> None:
    found = Texts(tokenizer, replace(SMALL, max_position_embeddings=100))
    assert {len(ids) for ids in found.verification} == {100}
    assert sum(map(len, found.verification)) <= 2048


def test_calibration_and_verification_have_no_sequence_in_common(tokenizer: Tokenizer) -> None:
    found = Texts(tokenizer, SMALL)
    assert not {tuple(ids[:50]) for ids in found.calibration} & {tuple(ids[:50]) for ids in found.verification}


def test_a_text_that_is_too_short_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(ExportError, match="has 1 tokens; give a longer one"):
        Texts(tokenizer, SMALL, "a")
