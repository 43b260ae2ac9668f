"""`neort verify`: sound bundles pass, bundles that compute something else fail."""

from __future__ import annotations

import dataclasses
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
from neort.verification import (
    Check,
    Golden,
    batch_difference,
    check,
    chunk_differences,
    golden_difference,
    largest,
    largest_tolerance,
    prompts_difference,
    record_golden,
)
from releases import KEEPS_INT8_CACHES

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


def read(golden: object, session: DecoderSession) -> Golden:
    return Golden.read(golden, "golden", session.spec, Path("verification.json"))


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
    names = [
        "golden logits",
        "alone against in a batch",
        "prompts in one run against alone",
        "prompt in chunks against at once",
    ]
    small = [f"int8 cache: {name}" for name in names] if KEEPS_INT8_CACHES else ["int8 cache: logits"]
    assert [check.name.split(",")[0] for check in checks] == [*names, *small]
    assert all(check.passed for check in checks)
    assert not any(check.skipped for check in checks[: len(names)])


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


@pytest.mark.parametrize("count", [2, 3, 5, 40, 300])
def test_prompts_in_one_run_have_the_logits_of_each_alone(session: DecoderSession, text: Ids, count: int) -> None:
    assert prompts_difference(session, text[:count]) == 0


@pytest.mark.parametrize(("prefill", "decode"), [(1e-3, 0.0), (0.0, 1e-3)])
def test_prompts_that_get_other_bits_together_are_found(
    bundle_path: Path, text: Ids, prefill: float, decode: float
) -> None:
    """In their own logits, and in those of the step after them."""
    assert prompts_difference(Noisy(Bundle(bundle_path), prefill, decode), text) > 0


def test_prompts_that_an_export_found_to_differ_are_run_one_by_one(
    bundle_copy: Path, edit_manifest: Callable[[Callable[[dict[str, Any]], None]], None], text: Ids
) -> None:
    edit_manifest(lambda manifest: manifest.update(prompts_together=False))
    apart = DecoderSession(Bundle(bundle_copy), num_threads=1)
    apart.reserve(2, [])
    prompts = [text[:9], text[20:24]]
    logits = apart.prefill_prompts(0, prompts, 6)
    for own, prompt in zip(logits, prompts, strict=True):
        rows = min(6, len(prompt))
        np.testing.assert_array_equal(own[6 - rows :], apart.prefill(0, prompt, 0, rows))
    (found,) = [c for c in check(bundle_copy, kv_cache="fp32") if "in one run" in c.name]
    assert found.passed
    assert "run one by one" in found.skipped


def test_a_manifest_says_with_true_or_false_whether_prompts_share_runs(
    bundle_copy: Path, edit_manifest: Callable[[Callable[[dict[str, Any]], None]], None]
) -> None:
    edit_manifest(lambda manifest: manifest.update(prompts_together="no"))
    with pytest.raises(neort.BundleError, match="prompts_together 'no', not true or false; copy or export"):
        Bundle(bundle_copy)


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
    assert golden_difference(session, read(json.loads(json.dumps(golden)), session)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("key", ["top_logits", "log_sum_exp"])
def test_golden_logits_that_differ_are_noticed(session: DecoderSession, stored: dict[str, Any], key: str) -> None:
    before = golden_difference(session, read(stored["golden"], session))
    shifted = stored["golden"] | {key: (np.array(stored["golden"][key]) + 3).tolist()}
    assert golden_difference(session, read(shifted, session)) == pytest.approx(3, abs=before + 1e-6)


@pytest.mark.parametrize(
    ("value", "limit", "passed"),
    [
        (1.0, 1.0, True),
        (1.1, 1.0, False),
        (9.0, None, True),
        (math.nan, 1.0, False),
        (math.inf, 1.0, False),
        (math.inf, math.inf, False),
        (1.0, math.nan, False),
        (math.nan, None, False),
        (math.inf, None, False),
    ],
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
    golden, batch, *_ = check(bundle_copy, kv_cache="fp32")
    assert not golden.passed
    assert batch.passed


def test_a_bundle_whose_weights_are_nan_fails_its_golden_logits(bundle_copy: Path, replace_file: ReplaceFile) -> None:
    replace_file("weights.data", b"\xff" * (bundle_copy / "weights.data").stat().st_size)
    golden = check(bundle_copy)[0]
    assert (golden.value, golden.passed) == (math.inf, False)


def test_a_bundle_without_golden_logits_is_refused(bundle_copy: Path, replace_file: ReplaceFile) -> None:
    replace_file("verification.json", b"{}")
    with pytest.raises(
        neort.BundleError, match=r"holds no golden logits golden\.token_ids; copy or export the bundle again"
    ):
        check(bundle_copy)


# NaN


@pytest.mark.parametrize("values", [[math.nan, 1.0], [1.0, math.nan], [math.inf, math.nan, 0.0]])
def test_nan_is_the_largest_wherever_it_stands(values: list[float]) -> None:
    assert largest(values) == math.inf


def test_of_nothing_the_largest_is_nothing() -> None:
    assert largest([]) == 0


@pytest.mark.parametrize("key", ["top_logits", "log_sum_exp"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_golden_logits_of_nan_are_met_by_nothing(
    session: DecoderSession, stored: dict[str, Any], key: str, value: float
) -> None:
    golden = read(stored["golden"], session)
    spoilt = getattr(golden, key).copy()
    spoilt.flat[-1] = value
    assert golden_difference(session, dataclasses.replace(golden, **{key: spoilt})) == math.inf


class Sick(DecoderSession):
    """A session whose logits are NaN in the last row of a certain run."""

    def __init__(self, bundle: Bundle, run: int) -> None:
        super().__init__(bundle, num_threads=1)
        self._left = run

    def prefill(self, slot: int, token_ids: Ids, start: int, logits_to_keep: int) -> Logits:
        return self._spoilt(super().prefill(slot, token_ids, start, logits_to_keep))

    def decode(self, token_ids: Ids, lengths: Lengths) -> Logits:
        return self._spoilt(super().decode(token_ids, lengths))

    def _spoilt(self, logits: Logits) -> Logits:
        self._left -= 1
        logits = logits.copy()
        if self._left == 0:
            logits[-1:] = np.nan
        return logits


@pytest.mark.parametrize("run", [1, 2, 3, 9])
def test_nan_in_any_run_is_an_infinite_difference(bundle_path: Path, text: Ids, run: int) -> None:
    assert chunk_differences(Sick(Bundle(bundle_path), run), text) == (math.inf, math.inf)
    if run > 1:  # the first run of a batch has no logits
        assert batch_difference(Sick(Bundle(bundle_path), run), text) == math.inf


def test_a_single_token_differs_by_nothing_in_a_batch(session: DecoderSession, text: Ids) -> None:
    assert batch_difference(session, text[:1]) == 0


# verification.json of unknown origin

SPOILT: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "token_ids: text": ("token_ids", lambda old: "abc"),
    "token_ids: none": ("token_ids", lambda old: []),
    "token_ids: three": ("token_ids", lambda old: old[:3]),
    "token_ids: too many": ("token_ids", lambda old: old * 1000),
    "token_ids: negative": ("token_ids", lambda old: [-1, *old[1:]]),
    "token_ids: out of range": ("token_ids", lambda old: [*old[1:], 10**6]),
    "token_ids: huge": ("token_ids", lambda old: [*old[1:], 10**400]),
    "token_ids: fractions": ("token_ids", lambda old: [1.5, *old[1:]]),
    "token_ids: true": ("token_ids", lambda old: [True, *old[1:]]),
    "token_ids: nested": ("token_ids", lambda old: [[1], *old[1:]]),
    "positions: out of range": ("positions", lambda old: [*old[:-1], 10**6]),
    "positions: negative": ("positions", lambda old: [-1, *old[1:]]),
    "positions: none": ("positions", lambda old: []),
    "positions: descending": ("positions", lambda old: old[::-1]),
    "positions: twice": ("positions", lambda old: [old[0], *old[:-1]]),
    "positions: object": ("positions", lambda old: {"0": 1}),
    "top_ids: ragged": ("top_ids", lambda old: [old[0][:-1], *old[1:]]),
    "top_ids: out of range": ("top_ids", lambda old: [[10**6, *old[0][1:]], *old[1:]]),
    "top_ids: flat": ("top_ids", lambda old: old[0]),
    "top_ids: empty": ("top_ids", lambda old: [[] for _ in old]),
    "top_ids: fewer": ("top_ids", lambda old: old[1:]),
    "top_logits: ragged": ("top_logits", lambda old: [old[0][:-1], *old[1:]]),
    "top_logits: text": ("top_logits", lambda old: [["1.0", *old[0][1:]], *old[1:]]),
    "top_logits: null": ("top_logits", lambda old: [[None, *old[0][1:]], *old[1:]]),
    "top_logits: too large": ("top_logits", lambda old: [[1e300, *old[0][1:]], *old[1:]]),
    "top_logits: fewer columns": ("top_logits", lambda old: [row[1:] for row in old]),
    "log_sum_exp: fewer": ("log_sum_exp", lambda old: old[1:]),
    "log_sum_exp: text": ("log_sum_exp", lambda old: ["x" * 10_000, *old[1:]]),
    "log_sum_exp: null": ("log_sum_exp", lambda old: None),
    "tolerance: negative": ("tolerance", lambda old: -1),
    "tolerance: huge": ("tolerance", lambda old: 1e6),
    "tolerance: text": ("tolerance", lambda old: "0.25"),
    "tolerance: true": ("tolerance", lambda old: True),
    "tolerance: list": ("tolerance", lambda old: [0.25] * 10_000),
}


@pytest.fixture
def rewrite(bundle_copy: Path, replace_file: ReplaceFile) -> Callable[[Callable[[dict[str, Any]], object]], None]:
    """Applies a function to the parsed verification.json of `bundle_copy`, and makes the manifest fit."""

    def edit(change: Callable[[dict[str, Any]], object]) -> None:
        content = json.loads((bundle_copy / "verification.json").read_text(encoding="utf-8"))
        change(content)
        replace_file("verification.json", json.dumps(content).encode())

    return edit


def refusal(bundle: Path) -> str:
    """The one sentence with which a bundle's verification.json is refused."""
    with pytest.raises(neort.BundleError) as caught:
        check(bundle)
    message = str(caught.value)
    assert f"{bundle}/verification.json" in message
    assert "copy or export the bundle again" in message
    assert "\n" not in message
    assert len(message) < 600
    return message


@pytest.mark.parametrize("name", ["golden", "golden_int8_cache"])
@pytest.mark.parametrize("damage", list(SPOILT))
def test_damaged_golden_logits_are_refused_in_one_sentence(
    bundle_copy: Path, rewrite: Callable[..., None], damage: str, name: str
) -> None:
    key, spoil = SPOILT[damage]

    def change(content: dict[str, Any]) -> None:
        content[name] = content["golden"] | {key: spoil(content["golden"][key])}

    rewrite(change)
    assert f"{name}.{key} " in refusal(bundle_copy)


@pytest.mark.parametrize("key", ["token_ids", "positions", "top_ids", "top_logits", "log_sum_exp", "tolerance"])
def test_golden_logits_that_lack_a_part_are_refused(bundle_copy: Path, rewrite: Callable[..., None], key: str) -> None:
    rewrite(lambda content: content["golden"].pop(key))
    assert f"holds no golden logits golden.{key}" in refusal(bundle_copy)


@pytest.mark.parametrize("golden", [None, [], "golden", 3, {}])
def test_golden_logits_that_are_none_are_refused(
    bundle_copy: Path, rewrite: Callable[..., None], golden: object
) -> None:
    rewrite(lambda content: content.update(golden=golden))
    assert "holds no golden logits" in refusal(bundle_copy)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", ["golden.tolerance", "identity.chunk_max_abs_diff"])
def test_json_s_nan_and_infinities_are_refused(
    bundle_copy: Path, rewrite: Callable[..., None], place: str, value: float
) -> None:
    section, _, key = place.partition(".")
    rewrite(lambda content: content[section].update({key: value}))
    assert f"{place} {value}, which is no finite number" in refusal(bundle_copy)


def test_text_that_is_none_is_refused(bundle_copy: Path, rewrite: Callable[..., None]) -> None:
    rewrite(lambda content: content["grades"].update(int8="\ud800" * 1000))
    assert "grades.int8 " in refusal(bundle_copy)


# Both graphs


@pytest.fixture
def with_int8_golden(bundle_copy: Path, rewrite: Callable[..., None], int8_cache: None) -> Path:
    """A copy of the bundled model that stores golden logits of its int8 cache's graph, as exports do."""
    session = DecoderSession(Bundle(bundle_copy), kv_cache="int8")

    def change(content: dict[str, Any]) -> None:
        golden = content["golden"]
        ids, positions = np.array(golden["token_ids"], np.int64), golden["positions"]
        logits = EngineCore(session).logits(ids)[positions]
        content["golden_int8_cache"] = record_golden(logits, ids, positions, golden["tolerance"])

    rewrite(change)
    return bundle_copy


def golden_checks(bundle: Path) -> dict[str, Check]:
    return {check.name.partition(":")[0]: check for check in check(bundle) if "golden" in check.name}


@pytest.mark.usefixtures("exact_products")
def test_each_graph_is_compared_with_its_own_golden_logits(with_int8_golden: Path) -> None:
    checks = golden_checks(with_int8_golden)
    assert list(checks) == ["golden logits, max abs difference", "int8 cache"]
    assert all(check.passed and not check.skipped for check in checks.values())
    assert check(with_int8_golden, kv_cache="int8")[0] == checks["int8 cache"]


def test_an_int8_cache_that_computes_something_else_is_found_though_nobody_asks_for_it(
    with_int8_golden: Path, rewrite: Callable[..., None]
) -> None:
    def change(content: dict[str, Any]) -> None:
        golden = content["golden_int8_cache"]
        golden["top_logits"] = [[x + 1 for x in row] for row in golden["top_logits"]]

    rewrite(change)
    found = golden_checks(with_int8_golden)["int8 cache"]
    assert not found.passed
    assert found.value == pytest.approx(1, abs=0.01)


@pytest.mark.usefixtures("int8_cache")
def test_a_bundle_without_the_int8_cache_s_golden_logits_says_so(
    bundle_copy: Path, rewrite: Callable[..., None]
) -> None:
    rewrite(lambda content: content.pop("golden_int8_cache", None))
    found = golden_checks(bundle_copy)["int8 cache"]
    assert "of an earlier version" in found.skipped
    assert found.passed
    assert math.isnan(found.value)


def test_an_onnxruntime_that_cannot_keep_an_int8_cache_checks_the_rest_and_says_so(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neort.backend.checks.onnxruntime_version", lambda: (1, 29))
    *checks, last = check(bundle_path)
    assert len(checks) == 4
    assert "cannot keep an int8 cache" in last.skipped
    with pytest.raises(neort.UnsupportedError):
        check(bundle_path, kv_cache="int8")


def test_another_kind_of_cache_is_refused(bundle_path: Path) -> None:
    with pytest.raises(neort.ConfigError, match="kv_cache is 'int4'; it must be None or one of fp32, int8"):
        check(bundle_path, kv_cache="int4")  # type: ignore[arg-type]


def test_a_tolerance_is_recorded_that_is_read_again() -> None:
    logits = np.array([[3.0, -8.0, 1.0]], np.float32)
    golden = record_golden(logits, np.arange(4), [3], tolerance=math.inf)
    assert golden["tolerance"] == largest_tolerance(logits) == 16
    assert largest_tolerance(np.zeros((1, 3))) == 1
