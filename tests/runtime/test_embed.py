"""`Model.embed`: vectors from hidden states, of texts in any company, without a change to what is generated."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neort
from fakes import run_threads
from neort.backend import DecoderSession
from neort.backend.hidden_states import hidden_values, with_outputs
from neort.backend.inputs import RunInputs
from neort.bundle import Bundle, read_graph
from neort.kvcache import CacheType

LONG = "Once upon a time there was a little house near the river. " * 20  # of two chunks
TEXTS = [LONG, "Hi", "The ship sailed out of the harbour."]


def test_a_text_has_the_same_vector_alone_and_in_any_company(kv_cache: CacheType) -> None:
    model = neort.load(num_threads=2, kv_cache=kv_cache, max_batch_size=3)
    texts = [[5 + i] * length for i, length in enumerate((1, 9, 257, 1, 130, 5))]
    together, last = model.embed(texts), model.embed(texts, 3, "last")
    assert together.shape == (len(texts), model.spec.hidden_size)
    assert together.dtype == np.float32
    assert np.array_equal(model.embed(texts[::-1])[::-1], together)
    for i, text in enumerate(texts):
        assert np.array_equal(model.embed(text), together[i])
        assert np.array_equal(model.embed(text, 3, pooling="none")[-1], last[i])


def test_texts_begin_together_and_go_on_alone(model: neort.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[tuple[int, int]] = []
    fill = RunInputs.fill

    def noting(self: RunInputs, token_ids: Any, lengths: Any, first: int) -> None:
        runs.append(token_ids.shape)
        fill(self, token_ids, lengths, first)

    model.embed("Hi")  # opens the graph
    monkeypatch.setattr(RunInputs, "fill", noting)
    model.embed([[5] * 3, [7] * 258, [9] * 4, [6] * 2] * 3)
    assert runs == [(2, 256), (1, 2), (1, 2), (1, 256), (1, 2), (8, 4), (1, 2)]


def test_vectors_do_not_depend_on_threads_chunks_or_packed_weights(model: neort.Model, tmp_path: Path) -> None:
    expected = model.embed(TEXTS)
    for options in ({"num_threads": 3}, {"num_threads": 1, "packed_weights": tmp_path}):
        assert np.array_equal(neort.load(**options).embed(TEXTS), expected)


@pytest.mark.parametrize("layer", [0, 2, -1])
def test_pooling_makes_one_vector_of_all(model: neort.Model, layer: int) -> None:
    rows = model.embed(TEXTS, layer, pooling="none")
    assert [each.shape[0] for each in rows] == [len(model.tokenizer.encode(text)) for text in TEXTS]
    assert np.allclose(model.embed(TEXTS, layer), [each.mean(axis=0) for each in rows], atol=1e-5)
    assert np.array_equal(model.embed(TEXTS, layer, "last"), [each[-1] for each in rows])
    lengths = np.linalg.norm(model.embed(TEXTS, layer, normalize=True), axis=1)
    assert np.allclose(lengths, 1, atol=1e-5)


def test_generation_keeps_its_bits_once_the_graph_puts_out_hidden_states(kv_cache: CacheType) -> None:
    model = neort.load(num_threads=1, kv_cache=kv_cache, prefix_cache_bytes=0)
    ids = model.tokenizer.encode(LONG)
    logits, text = model.logits(ids), model.generate(LONG, max_new_tokens=8).text
    model.embed("Hi")
    assert np.array_equal(model.logits(ids), logits)
    assert model.generate(LONG, max_new_tokens=8).text == text


def test_a_running_sequence_goes_on_as_if_nothing_had_happened() -> None:
    model = neort.load(num_threads=1)
    expected = model.generate(LONG, max_new_tokens=24).text
    stream = model.stream(LONG, max_new_tokens=24)
    first = next(stream)
    vector = model.embed(TEXTS[1])
    assert first.text + "".join(piece.text for piece in stream) == expected
    assert np.array_equal(model.embed(TEXTS[1]), vector)


def test_threads_embed_and_generate_at_once(model: neort.Model) -> None:
    expected, text = model.embed(TEXTS), model.generate(LONG, max_new_tokens=6).text
    found: list[Any] = []

    def embed() -> None:
        found.append(np.array_equal(model.embed(TEXTS), expected))

    def generate() -> None:
        found.append(model.generate(LONG, max_new_tokens=6).text == text)

    run_threads(embed, generate, embed)
    assert found == [True] * 3


def test_no_logits_are_computed(model: neort.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[int] = []
    run_alone = DecoderSession._run_alone

    def noting(self: DecoderSession, slot: int, ids: Any, start: int, keep: int, output: str) -> Any:
        kept.append(keep)
        return run_alone(self, slot, ids, start, keep, output)

    monkeypatch.setattr(DecoderSession, "_run_alone", noting)
    model.embed(LONG)
    assert kept == [0, 0]


def test_where_the_graph_cannot_be_opened_again_generation_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    model = neort.load(num_threads=1)
    text = model.generate("The", max_new_tokens=4).text

    def broken(graph: bytes, values: object) -> bytes:
        return graph[:100]

    monkeypatch.setattr("neort.backend.session.with_outputs", broken)
    with pytest.raises(neort.BundleError):
        model.embed("The")
    assert model.generate("The", max_new_tokens=4).text == text
    monkeypatch.undo()
    assert model.embed("The").shape == (model.spec.hidden_size,)


def test_the_bundle_stays_as_it_is_and_outputs_are_added_in_memory(bundle_path: Path) -> None:
    graph = (bundle_path / "decoder.onnx").read_bytes()
    values = hidden_values(read_graph(graph))
    assert len(values) == Bundle(bundle_path).spec.num_layers + 1
    assert list(read_graph(with_outputs(graph, values)).outputs) == [*read_graph(graph).outputs, *values]


def test_an_untied_quantized_model_says_which_layer_it_has(
    bundle_copy: Path, replace_file: Callable[[str, bytes], None]
) -> None:
    config = (bundle_copy / "config.json").read_text(encoding="utf-8").rstrip().removesuffix("}")
    replace_file("config.json", f'{config}, "tie_word_embeddings": false}}'.encode())
    model = neort.load(bundle_copy, num_threads=1)
    with pytest.raises(neort.UnsupportedError, match="use layer=-2"):
        model.embed("Hi")
    assert model.embed("Hi", layer=-2).shape == (model.spec.hidden_size,)


@pytest.mark.parametrize(
    ("texts", "options", "error", "says"),
    [
        ("", {}, neort.PromptError, "the text is empty"),
        (["a", ""], {}, neort.PromptError, "text 1 of the list is empty"),
        ([], {}, neort.PromptError, "the list of prompts is empty"),
        (LONG * 3, {}, neort.PromptError, 'truncation="right"'),
        ([[1, 99999]], {}, neort.PromptError, "outside the vocabulary"),
        ([[1], [99999]], {}, neort.PromptError, "^text 1 of the list: token id 99999"),
        ("a", {"layer": 7}, neort.ConfigError, "layer is 7; this model has 0"),
        ("a", {"layer": -8}, neort.ConfigError, "layer is -8"),
        ("a", {"layer": True}, neort.ArgumentTypeError, "layer is an integer"),
        ("a", {"pooling": "max"}, neort.ConfigError, "mean, last, none"),
        ("a", {"pooling": ["mean"]}, neort.ConfigError, "mean, last, none"),
        ("a", {"normalize": 1}, neort.ArgumentTypeError, "normalize is True or False"),
        ("a", {"truncation": True}, neort.ConfigError, "left or right"),
        (5, {}, neort.ArgumentTypeError, "not int"),
    ],
)
def test_what_cannot_be_embedded_is_told(
    model: neort.Model, texts: Any, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        model.embed(texts, **options)


def test_truncation_cuts_the_end_that_it_names(model: neort.Model) -> None:
    ids, positions = model.tokenizer.encode(LONG * 3), model.spec.max_position_embeddings
    assert np.array_equal(model.embed(ids, truncation="right"), model.embed(ids[:positions]))
    assert np.array_equal(model.embed(ids, truncation="left"), model.embed(ids[-positions:]))


def test_embedding_waits_until_a_sequence_leaves_it_a_slot() -> None:
    model = neort.load(num_threads=1, max_batch_size=1)
    expected = model.embed(TEXTS[1:])
    stream = model.stream("The", max_new_tokens=30)
    next(stream)
    assert np.array_equal(model.embed(TEXTS[1:]), expected)
    assert sum(1 for _ in stream) > 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_embeds(model: neort.Model) -> None:
    expected = model.embed("Hi")
    child = os.fork()
    if child == 0:
        os._exit(int(not np.array_equal(model.embed("Hi"), expected)))
    assert os.waitpid(child, 0)[1] == 0


def test_the_example_trains_a_classifier(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn", reason="the example needs scikit-learn")
    from importlib.util import module_from_spec, spec_from_file_location

    from folders import ROOT

    spec = spec_from_file_location("classify", ROOT / "examples" / "classifier" / "classify.py")
    assert spec is not None
    assert spec.loader is not None
    example = module_from_spec(spec)
    spec.loader.exec_module(example)
    assert example.main() >= 0.75
    assert "right" in capsys.readouterr().out
