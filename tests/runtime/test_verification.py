"""`neort verify`: sound bundles pass, bundles that compute something else fail."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neort
from neort.arrays import Ids, Lengths, Logits
from neort.backend import DecoderSession
from neort.backend import runner as session_module
from neort.bundle import Bundle
from neort.engine import EngineCore
from neort.verification import Check, batch_difference, check, chunk_differences, golden_difference, record_golden

ReplaceFile = Callable[[str, bytes], None]


@pytest.fixture(scope="module")
def session(bundle_path: Path) -> DecoderSession:
    return DecoderSession(Bundle(bundle_path), num_threads=1)


@pytest.fixture(scope="module")
def stored(bundle_path: Path) -> dict[str, Any]:
    return Bundle(bundle_path).read_json("verification.json")


@pytest.fixture(scope="module")
def text(stored: dict[str, Any]) -> Ids:
    """Ids of a text that is longer than twice the local window."""
    return np.array(stored["golden"]["token_ids"], np.int64)


class Noisy(DecoderSession):
    """A session whose logits depend on how many tokens or sequences run together."""

    def __init__(self, bundle: Bundle, prefill: float = 0.0, decode: float = 0.0) -> None:
        super().__init__(bundle, num_threads=1)
        self._prefill, self._decode = prefill, decode

    def prefill(self, slot: int, token_ids: Ids, start: int, logits_to_keep: int) -> Logits:
        logits = super().prefill(slot, token_ids, start, logits_to_keep)
        return logits + np.float32(self._prefill * len(token_ids))

    def decode(self, token_ids: Ids, lengths: Lengths) -> Logits:
        return super().decode(token_ids, lengths) + np.float32(self._decode * len(token_ids))


@pytest.mark.usefixtures("exact_products")
def test_the_bundled_model_passes_every_check(bundle_path: Path) -> None:
    checks = check(bundle_path)
    assert [check.name.split(",")[0] for check in checks] == [
        "golden logits",
        "alone against in a batch",
        "prompt in chunks against at once",
    ]
    assert all(check.passed for check in checks)


def test_the_stored_figures_are_within_their_own_limits(stored: dict[str, Any]) -> None:
    against_torch, limits = stored["against_torch"], stored["limits"]
    assert against_torch["int8"]["perplexity_ratio"] <= limits["perplexity_ratio"]
    assert stored["structure"]["largest_error"] <= stored["structure"]["limit"]
    assert stored["grades"]["int8"].startswith("excellent")


def test_decoded_logits_in_a_batch_are_those_alone_bit_for_bit(session: DecoderSession, text: Ids) -> None:
    assert batch_difference(session, text) == 0


@pytest.mark.parametrize("count", [4, 5, 40])
def test_batches_of_short_texts_are_identical_too(session: DecoderSession, text: Ids, count: int) -> None:
    assert batch_difference(session, text[:count]) == 0


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_sequences_are_compared_though_decoding_overwrites_the_slot_after_them(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch, text: Ids, slots: int
) -> None:
    monkeypatch.setattr(session_module, "split_below", lambda num_threads, spec: 100)
    padded = DecoderSession(Bundle(bundle_path), num_threads=1, max_batch_size=slots)
    monkeypatch.setattr(padded, "decode", overwriting(padded))
    assert batch_difference(padded, text) == 0


def overwriting(session: DecoderSession) -> Callable[..., Logits]:
    """A `decode` that leaves nothing of what the slot after its own held."""
    decode = session.decode

    def decode_and_overwrite(token_ids: Any, lengths: Any) -> Logits:
        logits = decode(token_ids, lengths)
        after = session.read(len(token_ids), 0, session.spec.max_position_embeddings)
        session.write(len(token_ids), 0, {name: np.full_like(rows, np.nan) for name, rows in after.items()})
        return logits

    return decode_and_overwrite


def test_a_batch_that_changes_the_logits_is_noticed(bundle_path: Path, text: Ids) -> None:
    assert batch_difference(Noisy(Bundle(bundle_path), decode=0.5), text) == pytest.approx(
        1.0, abs=1e-3
    )  # 3 rows against 1


def test_chunks_change_no_logit_by_more_than_the_tolerance(
    session: DecoderSession, text: Ids, stored: dict[str, Any]
) -> None:
    largest, mean = chunk_differences(session, text)
    assert mean <= largest <= stored["golden"]["tolerance"]


def test_chunks_that_change_the_logits_are_noticed(bundle_path: Path, text: Ids) -> None:
    largest, _ = chunk_differences(Noisy(Bundle(bundle_path), prefill=0.01), text)
    assert largest == pytest.approx(0.01 * (len(text) - 1), abs=1e-2)  # a chunk of one against all at once


def test_golden_logits_of_the_same_session_differ_by_nothing(session: DecoderSession, text: Ids) -> None:
    positions = [0, 130, len(text) - 1]
    golden = record_golden(EngineCore(session).logits(text)[positions], text, positions, tolerance=0.1)
    assert golden_difference(session, json.loads(json.dumps(golden))) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("key", ["top_logits", "log_sum_exp"])
def test_golden_logits_that_differ_are_noticed(session: DecoderSession, stored: dict[str, Any], key: str) -> None:
    before = golden_difference(session, stored["golden"])
    shifted = stored["golden"] | {key: (np.array(stored["golden"][key]) + 3).tolist()}
    assert golden_difference(session, shifted) == pytest.approx(3, abs=before + 1e-6)


@pytest.mark.parametrize(
    ("value", "limit", "passed"),
    [(1.0, 1.0, True), (1.1, 1.0, False), (9.0, None, True), (math.nan, 1.0, False), (math.inf, 1.0, False)],
)
def test_a_check_passes_up_to_its_limit(value: float, limit: float | None, passed: bool) -> None:
    assert Check("name", value, limit).passed is passed


def test_a_bundle_with_other_weights_fails_though_its_hashes_match(
    bundle_copy: Path, replace_file: ReplaceFile
) -> None:
    weights = bytearray((bundle_copy / "weights.data").read_bytes())
    middle = len(weights) // 2
    weights[middle : middle + 20_000] = bytes(20_000)
    replace_file("weights.data", bytes(weights))
    golden, batch, _ = check(bundle_copy)
    assert not golden.passed
    assert batch.passed


def test_a_bundle_whose_weights_are_nan_fails_its_golden_logits(bundle_copy: Path, replace_file: ReplaceFile) -> None:
    replace_file("weights.data", b"\xff" * (bundle_copy / "weights.data").stat().st_size)
    golden = check(bundle_copy)[0]
    assert (golden.value, golden.passed) == (math.inf, False)


def test_a_bundle_without_golden_logits_is_refused(bundle_copy: Path, replace_file: ReplaceFile) -> None:
    replace_file("verification.json", b"{}")
    with pytest.raises(neort.BundleError, match="holds no golden logits; export the bundle again"):
        check(bundle_copy)


@pytest.mark.parametrize("key", ["token_ids", "tolerance"])
def test_golden_logits_that_lack_a_part_are_refused(bundle_copy: Path, replace_file: ReplaceFile, key: str) -> None:
    stored = json.loads((bundle_copy / "verification.json").read_text(encoding="utf-8"))
    del stored["golden"][key]
    replace_file("verification.json", json.dumps(stored).encode())
    with pytest.raises(neort.BundleError, match="golden"):
        check(bundle_copy)
