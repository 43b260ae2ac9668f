"""The exported bundles against transformers: logits at every position, greedy tokens, and int8's distance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
import pytest
from transformers import GPTNeoForCausalLM

import neort
from checkpoints import (
    NO_LIMITS,
    POSITIONS,
    WINDOW,
    Floats,
    Ids,
    Model,
    mean_kl_and_perplexity_ratio,
    random_ids,
    random_model,
    save,
    torch_choices,
    torch_greedy,
    torch_logits,
)
from neort.backend import DecoderSession
from neort.bundle import Bundle, Quantization
from neort.engine import EngineCore
from neort.verification import batch_difference
from neort_export import Report, export, exporter
from neort_export.checkpoint import Checkpoint
from neort_export.graph import decoder_graph

TOLERANCE = 1e-4
MODELS: dict[str, dict[str, Any]] = {
    "head-dim-8-first-layer-local": {"layers": ("local", "global"), "hidden_size": 32, "num_heads": 4},
    "head-dim-16-all-global-narrow-mlp": {
        "layers": ("global", "global"),
        "hidden_size": 48,
        "num_heads": 3,
        "intermediate_size": 40,
    },
    "head-dim-24-all-local": {"layers": ("local", "local", "local"), "hidden_size": 72, "num_heads": 3},
    "head-dim-40-irregular-layers": {
        "layers": ("local", "local", "global", "local"),
        "hidden_size": 80,
        "num_heads": 2,
        "intermediate_size": 56,
    },
    "untied-head-relu": {"tie_word_embeddings": False, "activation_function": "relu", "vocab_size": 263},
    "odd-window-head-dim-12": {
        "window_size": 7,
        "layers": ("local", "global", "local"),
        "vocab_size": 257,
        "hidden_size": 36,
        "num_heads": 3,
    },
    "window-of-one-token-head-dim-4": {"window_size": 1, "num_heads": 8},
    "window-longer-than-the-context": {"window_size": 300},
}

GPT2 = "gpt2-head-dim-12"


class Pair(NamedTuple):
    """A model in torch and its fp32 bundle."""

    torch: Model
    bundle: Path

    @property
    def window(self) -> int:
        """The one of local layers; any for GPT-2, which has none."""
        window: int = getattr(self.torch.config, "window_size", WINDOW)
        return min(window, POSITIONS // 4)

    def session(self, slots: int = 4) -> DecoderSession:
        return DecoderSession(Bundle(self.bundle), max_batch_size=slots)

    def ids(self) -> Ids:
        return random_ids(POSITIONS, self.torch.config.vocab_size)


@pytest.fixture(scope="module", params=[*MODELS.values(), GPT2], ids=[*MODELS, GPT2])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    if request.param == GPT2:
        return Pair(request.getfixturevalue("gpt2"), request.getfixturevalue("gpt2_exports")("fp32").path)
    folder = tmp_path_factory.mktemp("parity")
    model = random_model(**request.param)
    save(model, folder / "checkpoint")
    return Pair(model, export(folder / "checkpoint", folder / "bundle", quantization="fp32", verify=False).path)


def largest(difference: Floats) -> float:
    return float(np.abs(difference).max())


def test_logits_equal_torch_at_every_position_whatever_the_chunks(pair: Pair) -> None:
    """The sequence fills all positions: several windows, and the window's edges, in chunks around its size."""
    expected = torch_logits(pair.torch, pair.ids())
    session = pair.session()
    for chunk in {1, 3, pair.window, pair.window + 1, 2 * pair.window + 1, 100, POSITIONS}:
        logits = EngineCore(session, prefill_chunk=chunk).logits(pair.ids())
        assert largest(logits - expected) <= TOLERANCE, f"in chunks of {chunk}"


@pytest.mark.parametrize("extra", [-1, 0, 1], ids=["window-1", "window", "window+1"])
def test_decode_steps_equal_torch_after_prompts_around_the_window(pair: Pair, extra: int) -> None:
    ids, prompt = pair.ids(), max(1, pair.window + extra)
    expected = torch_logits(pair.torch, ids)
    session = pair.session()
    session.reserve(1, [])
    kept = session.prefill(0, ids[:prompt], 0, 1)
    rows = [session.decode(ids[i : i + 1], np.array([i], np.int32))[0].copy() for i in range(prompt, POSITIONS)]
    assert largest(np.stack([kept[0], *rows]) - expected[prompt - 1 :]) <= TOLERANCE


def test_sequences_of_different_lengths_decode_together_as_in_torch(pair: Pair) -> None:
    """Lengths from one token to past twice the window, decoded over another window."""
    ids = pair.ids()
    expected = torch_logits(pair.torch, ids)
    lengths = np.array([1, pair.window, pair.window + 1, 2 * pair.window + 2], np.int32)
    session = pair.session()
    session.reserve(len(lengths), [])
    for slot, length in enumerate(lengths.tolist()):
        session.prefill(slot, ids[:length], 0, 0)
    for _ in range(pair.window + 2):
        assert largest(session.decode(ids[lengths], lengths) - expected[lengths]) <= TOLERANCE
        lengths += 1


@pytest.mark.parametrize("keep", [0, 1, 5, 20])
def test_the_last_positions_kept_are_torch_s_last(pair: Pair, keep: int) -> None:
    ids = pair.ids()[:20]
    session = pair.session()
    session.reserve(1, [])
    logits = session.prefill(0, ids, 0, keep)
    assert logits.shape == (keep, pair.torch.config.vocab_size)
    np.testing.assert_allclose(logits, torch_logits(pair.torch, ids)[20 - keep :], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("length", [3, WINDOW, WINDOW + 1, 40])
def test_each_greedy_token_is_torch_s_choice(pair: Pair, length: int) -> None:
    """More than three windows of new tokens where the positions allow it; prompts within and beyond the window."""
    prompt, count = pair.ids()[:length], 3 * pair.window + 8
    count = min(count, POSITIONS - length + 1)
    found = list(neort.load(pair.bundle).generate(prompt, max_new_tokens=count).token_ids)
    assert len(found) == count
    assert len(set(found)) > 1
    assert found == torch_choices(pair.torch, prompt, found)


def test_each_greedy_token_of_a_batch_is_torch_s_choice(pair: Pair) -> None:
    prompts = [pair.ids()[:length] for length in (2, 30, 17)]
    completions = neort.load(pair.bundle).generate(prompts, max_new_tokens=40)
    assert {len(completion.token_ids) for completion in completions} == {40}
    for prompt, completion in zip(prompts, completions, strict=True):
        assert list(completion.token_ids) == torch_choices(pair.torch, prompt, completion.token_ids)


def test_greedy_tokens_equal_transformers_generate(fp32_bundle: Path, model: GPTNeoForCausalLM) -> None:
    prompt = random_ids(20)
    completion = neort.load(fp32_bundle).generate(prompt, max_new_tokens=40)
    assert list(completion.token_ids) == torch_greedy(model, prompt, 40)


def test_an_fp32_bundle_records_what_it_measured(fp32_bundle: Path) -> None:
    stored = json.loads((fp32_bundle / "verification.json").read_text())
    assert 0 < stored["against_torch"]["fp32"]["max_abs_diff"] <= TOLERANCE
    assert set(stored["against_torch"]) == {"fp32"}
    assert stored["golden"]["positions"][-1] == len(stored["golden"]["token_ids"]) - 1


def test_an_int8_bundle_decodes_each_sequence_as_if_it_were_alone(int8_report: Report) -> None:
    session = DecoderSession(Bundle(int8_report.path))
    assert int8_report.verification is not None
    assert int8_report.verification.batch_difference == 0
    assert batch_difference(session, random_ids(100)) == 0


def test_an_int8_bundle_is_near_the_fp32_model(int8_report: Report, model: GPTNeoForCausalLM) -> None:
    """The logits' error is a few percent of their spread: a layer gone wrong would leave nothing in common."""
    expected = torch_logits(model, random_ids(POSITIONS))
    logits = EngineCore(DecoderSession(Bundle(int8_report.path))).logits(random_ids(POSITIONS))
    assert 0 < np.std(logits - expected) < 0.05 * np.std(expected)


def test_the_folded_last_normalization_is_told_from_the_weights(int8_report: Report, fp32_bundle: Path) -> None:
    """Cosines of a random int8 model to fp32: 0.9999; without the folded scale and shift 0.49 to 0.82."""
    texts = ["The river ran", "x", "Once upon a time there was a house, and"]
    quantized, exact = (neort.load(path, num_threads=1).embed(texts) for path in (int8_report.path, fp32_bundle))
    cosines = (quantized * exact).sum(axis=1) / np.linalg.norm(quantized, axis=1) / np.linalg.norm(exact, axis=1)
    assert cosines.min() > 0.999


def test_an_int8_bundle_of_a_random_model_generates_to_the_last_position(int8_report: Report) -> None:
    completion = neort.load(int8_report.path).generate(random_ids(20), max_new_tokens=POSITIONS - 19)
    assert (len(completion.token_ids), completion.finish_reason) == (POSITIONS - 19, "length")


@pytest.fixture(scope="module")
def mini_graph(neo_mini: Path) -> ir.Model:
    return decoder_graph(Checkpoint(neo_mini))


@pytest.fixture
def traced_mini(mini_graph: ir.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports of neo-mini reuse its graph."""
    monkeypatch.setattr(exporter, "decoder_graph", lambda _: mini_graph.clone())


@pytest.fixture(scope="module")
def mini(neo_mini: Path, mini_graph: ir.Model, tmp_path_factory: pytest.TempPathFactory) -> Report:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(exporter, "decoder_graph", lambda _: mini_graph.clone())
        return export(neo_mini, tmp_path_factory.mktemp("mini") / "bundle")


class Unseen(NamedTuple):
    """4096 tokens of books in sequences of four windows, and torch's logits of them."""

    ids: list[list[int]]
    logits: list[Floats]


@pytest.fixture(scope="module")
def unseen(mini: Report, neo_mini: Path, books: str) -> Unseen:
    ids = neort.load(mini.path).tokenizer.encode(books[:40_000])[:4096]
    assert len(ids) == 4096
    sequences = [ids[i : i + 512] for i in range(0, 4096, 512)]
    reference = GPTNeoForCausalLM.from_pretrained(neo_mini).eval()
    return Unseen(sequences, [torch_logits(reference, each) for each in sequences])


TARGETS = {"int8": (5e-4, 1.002), "int8-block": (4e-4, 1.002), "int4": (3e-3, 1.006)}


@pytest.mark.usefixtures("traced_mini")
@pytest.mark.parametrize("quantization", list(TARGETS))
def test_each_format_keeps_a_trained_model_s_quality_on_unseen_books(
    quantization: Quantization, mini: Report, neo_mini: Path, unseen: Unseen, tmp_path: Path
) -> None:
    """Mean KL to torch in nats and the ratio of perplexities on 4096 tokens; calibrated on other text."""
    path = mini.path
    if quantization != "int8":
        path = export(neo_mini, tmp_path / "bundle", quantization=quantization, verify=False).path
    loaded = neort.load(path)
    kl, ratio = mean_kl_and_perplexity_ratio(unseen.logits, [loaded.logits(s) for s in unseen.ids], unseen.ids)
    most, highest = TARGETS[quantization]
    assert 0 < kl <= most
    assert ratio <= highest
    assert batch_difference(DecoderSession(Bundle(path)), np.array(unseen.ids[0][:300])) == 0


def test_two_exports_of_one_checkpoint_are_identical(int8_report: Report, checkpoint: Path, tmp_path: Path) -> None:
    again = export(checkpoint, tmp_path / "again", limits=NO_LIMITS)
    assert (again.path / "manifest.json").read_bytes() == (int8_report.path / "manifest.json").read_bytes()


@pytest.mark.usefixtures("exporter")
def test_two_exports_with_compensated_rounding_are_identical(checkpoint: Path, tmp_path: Path) -> None:
    paths = [export(checkpoint, tmp_path / name, quantization="int4", verify=False).path for name in "ab"]
    first, second = ((path / "manifest.json").read_bytes() for path in paths)
    assert first == second


def test_the_bundled_model_is_what_the_exporter_makes_of_its_checkpoint(mini: Report) -> None:
    """Same files, same recipe, same model, and the same weights.

    The weights' hashes are equal on the machine type that made the bundled model; another CPU's torch may round the
    calibration otherwise, so scales may differ in their last digits and few integers by one.
    """
    bundled, fresh = Bundle(neort.bundle.bundled_path()), Bundle(mini.path)
    assert fresh.file_names == bundled.file_names
    for section in ("source", "recipe", "model"):
        assert fresh.manifest[section] == bundled.manifest[section], section
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        assert fresh.manifest["files"][name] == bundled.manifest["files"][name]
    ours, theirs = (_initializers(bundle) for bundle in (fresh, bundled))
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        if array.dtype == np.int8:
            difference = np.abs(array.astype(np.int16) - theirs[name])
            assert difference.max() <= 1, name
            assert difference.mean() <= 1e-3, name
        else:
            np.testing.assert_allclose(array, theirs[name], rtol=1e-4, atol=1e-5, err_msg=name)


def _initializers(bundle: Bundle) -> dict[str, np.ndarray[Any, Any]]:
    graph = ir.load(bundle.file("decoder.onnx")).graph
    return {name: value.const_value.numpy() for name, value in graph.initializers.items() if value.const_value}
