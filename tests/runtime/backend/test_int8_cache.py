"""Keys and values in int8: a quarter of the memory, and the same bits however a text is cut into runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import neort
from neort import BundleError, Model, PrefixError, UnsupportedError
from neort.backend import DECODERS, DecoderSession
from neort.backend.session import decoder_file
from neort.bundle import Bundle
from neort.verification import batch_difference, check, chunk_differences

TEXT = (
    "It was a dark night, and the captain said nothing. He went to the window and looked at the river, where the boats "
    "lay side by side, and thought of what the old man had told him about the house on the hill. "
)


@pytest.fixture(scope="module")
def small(bundle_path: Path, int8_cache: None) -> Model:
    return neort.load(bundle_path, num_threads=2, kv_cache="int8")


@pytest.fixture(scope="module")
def ids(small: Model) -> np.ndarray:
    """Real text past twice the local window."""
    return np.array(small.tokenizer.encode(TEXT * 8), np.int64)[:400]


def test_logits_do_not_depend_on_how_a_text_is_cut_into_runs(small: Model, ids: np.ndarray) -> None:
    assert len(ids) > 2 * small.spec.window_size
    session = DecoderSession(small.bundle, num_threads=2, kv_cache="int8")
    assert chunk_differences(session, ids) == (0, 0)


def test_decode_steps_give_the_bits_of_a_prefill(small: Model, ids: np.ndarray) -> None:
    session = DecoderSession(small.bundle, num_threads=2, kv_cache="int8")
    session.reserve(1, [])
    whole = session.prefill(0, ids, 0, len(ids)).copy()
    session.prefill(0, ids[:1], 0, 0)
    steps = [session.decode(ids[i : i + 1], np.array([i], np.int32))[0].copy() for i in range(1, len(ids))]
    assert np.array_equal(np.stack(steps), whole[1:])


def test_a_sequence_is_decoded_in_a_batch_as_alone(small: Model, ids: np.ndarray) -> None:
    assert batch_difference(DecoderSession(small.bundle, num_threads=2, kv_cache="int8"), ids) == 0


@pytest.mark.parametrize("num_threads", [1, 2, 3, 64])
def test_results_do_not_depend_on_the_number_of_threads(small: Model, ids: np.ndarray, num_threads: int) -> None:
    other = neort.load(small.bundle.path, num_threads=num_threads, kv_cache="int8")
    assert other.num_threads == num_threads
    assert np.array_equal(other.logits(ids[:300]), small.logits(ids[:300]))
    start = [int(i) for i in ids[:300]]
    assert other.generate(start, max_new_tokens=8).token_ids == small.generate(start, max_new_tokens=8).token_ids


def test_the_cache_takes_a_quarter_of_the_memory(small: Model, model: Model) -> None:
    assert small._session.bytes_per_position * 4 == model._session.bytes_per_position


def test_logits_are_near_those_of_a_cache_in_fp32(small: Model, model: Model, ids: np.ndarray) -> None:
    p, q = (x - np.log(np.exp(x).sum(-1, keepdims=True)) for x in (model.logits(ids), small.logits(ids)))
    divergence = (np.exp(p) * (p - q)).sum(-1)
    assert 0 < divergence.mean() < 5e-4  # nats


def test_any_common_beginning_is_reused_without_a_change_in_any_bit(small: Model, ids: np.ndarray) -> None:
    fresh = neort.load(small.bundle.path, num_threads=2, kv_cache="int8", prefix_cache_bytes=0)
    prompts = [[int(i) for i in ids[:n]] for n in (150, 233, 301)]
    kept = neort.load(small.bundle.path, num_threads=2, kv_cache="int8")
    for prompt in prompts:
        mine = kept.generate(prompt, max_new_tokens=12, do_sample=True, seed=3)
        assert mine.token_ids == fresh.generate(prompt, max_new_tokens=12, do_sample=True, seed=3).token_ids
    assert mine.stats.reused_tokens == 233


def test_an_answer_is_reused_by_the_prompt_that_goes_on_after_it(small: Model, ids: np.ndarray) -> None:
    kept = neort.load(small.bundle.path, num_threads=2, kv_cache="int8")
    first = kept.generate([int(i) for i in ids[:60]], max_new_tokens=30)
    second = kept.generate([*(int(i) for i in ids[:60]), *first.token_ids, 5, 6], max_new_tokens=2)
    assert second.stats.reused_tokens == 60 + 30 - 1  # the last token was never fed


def test_a_prefix_file_belongs_to_one_type_of_cache(small: Model, model: Model, tmp_path: Path) -> None:
    with small.prefix(TEXT) as prefix:
        prefix.save(tmp_path / "small")
    with small.load_prefix(tmp_path / "small") as again:
        assert len(again) == len(prefix)
    with pytest.raises(PrefixError):
        model.load_prefix(tmp_path / "small")


@pytest.mark.usefixtures("int8_cache")
def test_verify_holds_an_int8_cache_to_identity_in_batches_shared_runs_and_chunks(bundle_path: Path) -> None:
    checks = check(bundle_path, kv_cache="int8")[1:]
    assert [(check.value, check.limit) for check in checks] == [(0, 0)] * 3


def test_a_bundle_without_such_a_graph_says_so(bundle_copy: Path, edit_manifest: object) -> None:
    (bundle_copy / DECODERS["int8"]).unlink()
    edit_manifest(lambda manifest: manifest["files"].pop(DECODERS["int8"]))  # type: ignore[operator]
    assert neort.load(bundle_copy).spec == Bundle(bundle_copy).spec
    with pytest.raises(BundleError, match="no graph for kv_cache 'int8'"):
        neort.load(bundle_copy, kv_cache="int8")


@pytest.mark.parametrize("version", ["1.27.0", "1.29.1"])
def test_an_onnxruntime_that_mixes_up_batches_is_refused(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr("onnxruntime.__version__", version)
    assert decoder_file(Bundle(bundle_path), "fp32").is_file()
    with pytest.raises(UnsupportedError, match=rf"onnxruntime {version} cannot keep an int8 cache; update it to 1\.30"):
        neort.load(bundle_path, kv_cache="int8")


def test_another_type_of_cache_is_refused(bundle_path: Path) -> None:
    with pytest.raises(ValueError, match="kv_cache is 'int4'; it must be one of fp32, int8"):
        neort.load(bundle_path, kv_cache="int4")  # type: ignore[arg-type]
