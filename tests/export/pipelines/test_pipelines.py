"""neort's pipelines beside transformers' own, call by call: the same results, greedy text for text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer

import neort
from checkpoints import POSITIONS, assert_same_hidden_states

TEXT = "The river ran"
TEXTS = [TEXT, "x", "Once upon a time"]
LONG = "A long way. " * 11  # 132 tokens, and 128 positions


@pytest.fixture(scope="module")
def reference(checkpoint: Path) -> Any:
    pipeline: Any = transformers.pipeline("text-generation", model=str(checkpoint), device="cpu")
    pipeline.tokenizer.pad_token = "<|endoftext|>"  # without which it makes no batches
    pipeline.tokenizer.model_max_length = POSITIONS
    return pipeline


@pytest.fixture(scope="module")
def generator(fp32_bundle: Path) -> neort.pipelines.TextGenerationPipeline:
    return neort.pipeline("text-generation", model=fp32_bundle, num_threads=1)


CALLS: list[tuple[Any, dict[str, Any]]] = [
    (TEXT, {}),
    (TEXTS, {}),
    ([TEXT], {}),
    (TEXTS, {"return_full_text": False}),
    (TEXTS, {"return_tensors": True}),
    (TEXT, {"return_text": True}),
    (TEXT, {"num_return_sequences": 1}),
    (TEXT, {"prefix": "It is said: "}),
    (TEXT, {"prefix": "It is said: ", "return_full_text": False, "return_type": None}),
    (TEXT, {"prefix": "It is said: ", "return_tensors": True}),
    (TEXT, {"prefix": "So: ", "max_length": 18}),
    ([TEXT, "The river"], {"max_length": 15}),
    (TEXT, {"max_new_tokens": 3, "max_length": 100}),
    (TEXT, {"min_length": 16}),
    (TEXT, {"min_new_tokens": 3}),
    (TEXT, {"repetition_penalty": 1.5}),
    (TEXT, {"stop_sequence": "STOP"}),
    (TEXTS, {"stop_sequence": ["STOP", "NEVER"], "return_tensors": True}),
    (LONG, {"handle_long_generation": "hole"}),
    (LONG, {"handle_long_generation": "hole", "return_tensors": True}),
    (TEXT, {"handle_long_generation": "hole"}),
    (TEXTS, {"truncation": True, "max_length": 8, "max_new_tokens": 5, "return_tensors": True}),
    (TEXT, {"add_special_tokens": False}),
    (TEXT, {"tokenizer_encode_kwargs": {"add_special_tokens": True}}),
    (f"{TEXT}<|endoftext|> and", {"return_full_text": False}),
    (TEXT, {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}),
    (TEXTS, {"batch_size": 2}),
    (TEXT, {"eos_token_id": 65}),
    (TEXT, {"num_beams": 2, "num_return_sequences": 2, "return_tensors": True}),
]


@pytest.mark.parametrize(("inputs", "options"), CALLS, ids=[f"{i}-{'-'.join(c[1])}" for i, c in enumerate(CALLS)])
def test_a_call_gives_what_transformers_gives(
    reference: Any, generator: Any, inputs: Any, options: dict[str, Any]
) -> None:
    options = {"do_sample": False} | options
    if "max_length" not in options:
        options = {"max_new_tokens": 5} | options
    elif "max_new_tokens" not in options:
        _skip_below_5("lets the pipeline's own max_new_tokens of 256 override max_length")
    if "stop_sequence" in options:  # a text that comes
        new = generator(TEXT, do_sample=False, max_new_tokens=4, return_full_text=False)[0]["generated_text"]
        found = new[1:2]
        stop = options["stop_sequence"]
        options["stop_sequence"] = found if isinstance(stop, str) else [found, *stop[1:]]
    assert generator(inputs, **options) == reference(inputs, **options)


def _skip_below_5(what: str) -> None:
    if transformers.__version__ < "5":
        pytest.skip(f"transformers 4 {what}")


@pytest.mark.parametrize(
    ("config", "options"),
    [
        ({"max_new_tokens": 4, "do_sample": False}, {}),
        ({"max_length": 16, "do_sample": False}, {}),
        ({"max_length": 16, "do_sample": False}, {"prefix": "So, "}),
        ({"max_new_tokens": 3, "do_sample": False}, {"max_length": 30}),
        ({"max_length": 30, "do_sample": False}, {"max_new_tokens": 3}),
        ({"max_length": 30}, {"max_new_tokens": 3, "do_sample": False}),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_generation_config_is_taken_as_transformers_takes_it(
    reference: Any, generator: Any, config: dict[str, Any], options: dict[str, Any]
) -> None:
    """One given to the pipeline goes before the call's options, one of the call before the pipeline's."""
    _skip_below_5("puts its own defaults over a generation_config")
    theirs = transformers.GenerationConfig(**config)
    expected = reference(TEXT, generation_config=theirs, return_tensors=True, **options)
    for own in (neort.GenerationConfig(**config), theirs):
        assert generator(TEXT, generation_config=own, return_tensors=True, **options) == expected


def test_an_iterator_is_read_as_results_are_asked_for(reference: Any, generator: Any) -> None:
    read: list[str] = []

    def texts() -> Iterator[str]:
        for text in TEXTS:
            read.append(text)
            yield text

    options: dict[str, Any] = {"do_sample": False, "max_new_tokens": 4}
    results = generator(texts(), **options)
    assert read == []
    first = next(results)
    assert read == TEXTS[:1]
    assert [first, *results] == list(reference((text for text in TEXTS), **options))


def test_parameters_of_the_pipeline_hold_for_every_call(checkpoint: Path, fp32_bundle: Path) -> None:
    options: dict[str, Any] = {"do_sample": False, "max_new_tokens": 5, "return_full_text": False}
    ours = neort.pipeline("text-generation", model=fp32_bundle, num_threads=1, **options)
    theirs = transformers.pipeline("text-generation", model=str(checkpoint), device="cpu", **options)
    for call in ({}, {"max_new_tokens": 3}, {"return_full_text": True}, {"return_tensors": True}):
        assert ours(TEXT, **call) == theirs(TEXT, **call)


def test_a_streamer_of_transformers_prints_the_same(
    reference: Any, generator: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    streamer = transformers.TextStreamer(reference.tokenizer)
    options: dict[str, Any] = {"do_sample": False, "max_new_tokens": 6, "streamer": streamer}
    expected, printed = reference(TEXT, **options), capsys.readouterr().out
    assert generator(TEXT, **options) == expected
    assert capsys.readouterr().out == printed
    assert printed != ""


def test_features_are_those_of_transformers(checkpoint: Path, fp32_bundle: Path) -> None:
    theirs: Any = transformers.pipeline(
        "feature-extraction",
        model=AutoModel.from_pretrained(checkpoint),
        tokenizer=AutoTokenizer.from_pretrained(checkpoint),
    )
    ours = neort.pipeline("feature-extraction", model=fp32_bundle, num_threads=1)
    _close(ours(TEXT), theirs(TEXT))
    for one, other in zip(ours(TEXTS), theirs(TEXTS), strict=True):
        _close(one, other)
    array = ours(TEXT, return_tensors="np")
    assert array.shape == tuple(theirs(TEXT, return_tensors=True).shape)
    cut: dict[str, Any] = {"tokenize_kwargs": {"max_length": 5}, "truncation": True}
    _close(ours(TEXT, **cut), theirs(TEXT, **cut))


def _close(one: Any, other: Any) -> None:
    first: NDArray[np.float64]
    first, second = np.array(one), np.array(other)
    assert first.shape == second.shape
    assert np.abs(first - second).max() < 1e-4


def test_embeddings_are_transformers_hidden_states(model: Any, fp32_bundle: Path) -> None:
    assert_same_hidden_states(model, fp32_bundle, TEXTS)
