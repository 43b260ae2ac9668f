"""What a pipeline says and does where no other library is there to compare with."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import neort
from neort.pipelines import FeatureExtractionPipeline, ReturnType, TextGenerationPipeline

GREEDY: dict[str, Any] = {"do_sample": False, "max_new_tokens": 6}


@pytest.fixture(scope="module")
def generator(model: neort.Model) -> TextGenerationPipeline:
    return neort.pipeline("text-generation", model=model)


@pytest.fixture(scope="module")
def extractor(model: neort.Model) -> FeatureExtractionPipeline:
    return neort.pipeline("feature-extraction", model=model)


def test_the_lines_of_the_models_card_run_with_another_import() -> None:
    from neort import pipeline

    generator = pipeline("text-generation", num_threads=1)
    (record,) = generator("EleutherAI has", do_sample=True, min_length=50)
    assert record["generated_text"].startswith("EleutherAI has")
    (record,) = generator("EleutherAI has", do_sample=True, min_length=50, return_tensors=True)
    assert len(record["generated_token_ids"]) >= 50


def test_results_have_the_form_of_the_inputs(generator: TextGenerationPipeline, model: neort.Model) -> None:
    new = model.generate("The", **GREEDY)
    record = {"generated_text": f"The{new.text}"}
    assert generator("The", **GREEDY) == [record]
    assert generator(["The", "The"], **GREEDY) == [[record], [record]]
    assert generator(("The",), **GREEDY) == [[record]]
    assert generator([], **GREEDY) == []
    results = generator((text for text in ["The"]), **GREEDY)
    assert isinstance(results, Iterator)
    assert list(results) == [[record]]
    ids = [*model.tokenizer.encode("The"), *new.token_ids]
    for tensors in ({"return_tensors": True}, {"return_type": 0}, {"return_type": ReturnType.TENSORS}):
        assert generator("The", **GREEDY, **tensors) == [{"generated_token_ids": ids}]


def test_an_iterator_is_read_by_batches(generator: TextGenerationPipeline) -> None:
    read: list[str] = []

    def texts() -> Iterator[str]:
        for text in "abcd":
            read.append(text)
            yield text

    results = generator(texts(), batch_size=2, **GREEDY)
    next(results)
    assert read == ["a", "b"]
    assert len(list(results)) == 3


def test_several_sequences_are_records_of_one_text(generator: TextGenerationPipeline) -> None:
    options: dict[str, Any] = {"max_new_tokens": 4, "num_return_sequences": 3, "seed": 1, "return_full_text": False}
    records = generator(["The", "A"], **options)
    assert [len(each) for each in records] == [3, 3]
    assert generator("The", **options) == records[0]
    assert len({record["generated_text"] for record in records[0]}) > 1


def new_text(generator: TextGenerationPipeline, **options: Any) -> str:
    text: str = generator("The", return_full_text=False, **options)[0]["generated_text"]
    return text


def test_a_text_is_sampled_unless_something_says_otherwise(
    generator: TextGenerationPipeline, model: neort.Model
) -> None:
    sampled = model.generate("The", max_new_tokens=5, do_sample=True, temperature=0.7, seed=3).text
    assert generator("The", max_new_tokens=5, seed=3, return_full_text=False)[0]["generated_text"] == sampled
    assert sampled == new_text(generator, generation_config=neort.GenerationConfig(max_new_tokens=5), seed=3)
    greedy = model.generate("The", max_new_tokens=5).text
    config = neort.GenerationConfig(max_new_tokens=5, do_sample=False)
    for same in (config, copy.deepcopy(config), pickle.loads(pickle.dumps(config)), config.replace(seed=4)):
        assert new_text(generator, generation_config=same) == greedy


def test_a_generation_config_replaces_the_options_of_the_pipeline(model: neort.Model) -> None:
    generator = neort.pipeline(model=model, max_new_tokens=3, stop_sequence="zq")
    config = neort.GenerationConfig(max_length=9, do_sample=False)
    (record,) = generator("The", generation_config=config, return_tensors=True)
    assert len(record["generated_token_ids"]) == 9
    expected = model.generate("The", config).token_ids
    assert record["generated_token_ids"] == [*model.tokenizer.encode("The"), *expected]


def test_transformers_own_generation_config_is_taken(generator: TextGenerationPipeline, model: neort.Model) -> None:
    class Foreign:
        def to_diff_dict(self) -> dict[str, Any]:
            return {"max_new_tokens": 4, "do_sample": False, "transformers_version": "5.24.0"}

    assert new_text(generator, generation_config=Foreign()) == model.generate("The", max_new_tokens=4).text


def test_a_default_length_ends_at_the_last_position_and_a_wanted_one_is_refused(
    generator: TextGenerationPipeline, model: neort.Model
) -> None:
    prompt = model.tokenizer.decode([5] * 500)
    ids = generator(prompt, do_sample=False, return_tensors=True)[0]["generated_token_ids"]
    assert len(ids) <= model.spec.max_position_embeddings + 1
    with pytest.raises(neort.PromptError, match="needs"):
        generator(prompt, do_sample=False, max_new_tokens=256)
    assert generator(prompt, handle_long_generation="hole", do_sample=False)
    with pytest.raises(neort.PromptError, match="handle_long_generation"):
        generator("x " * 600)


def test_an_empty_text_begins_with_the_models_first_token(
    generator: TextGenerationPipeline, model: neort.Model
) -> None:
    expected = model.generate([0], **GREEDY)
    assert generator("", **GREEDY) == [{"generated_text": expected.text}]
    assert generator("", return_tensors=True, **GREEDY) == [{"generated_token_ids": [0, *expected.token_ids]}]


def test_max_length_counts_the_prompts_tokens(generator: TextGenerationPipeline, model: neort.Model) -> None:
    texts = ["The", "The ship sailed out"]
    records = generator(texts, do_sample=False, max_length=12, return_tensors=True)
    assert [len(each[0]["generated_token_ids"]) for each in records] == [12, 12]
    with pytest.raises(neort.ConfigError, match="max_length=2 counts the prompt"):
        generator("The ship sailed out", max_length=2)


def test_functions_that_stop_or_allow_are_passed_on(generator: TextGenerationPipeline, model: neort.Model) -> None:
    first = model.generate("The", max_new_tokens=1).text
    assert new_text(generator, stopping_criteria=[lambda ids: True], **GREEDY) == first
    allowed = new_text(generator, prefix_allowed_tokens_fn=lambda index, ids: [5], **GREEDY)
    assert allowed == model.tokenizer.decode([5] * 6)


def test_streamers_get_ids_and_functions_get_pieces(generator: TextGenerationPipeline, model: neort.Model) -> None:
    class Recorder:
        def __init__(self) -> None:
            self.values: list[list[Any]] = []

        def put(self, value: Any) -> None:
            self.values.append(value.tolist())

        def end(self) -> None:
            self.values.append([])

    recorder, pieces = Recorder(), list[neort.Piece]()
    records = generator("The", streamer=recorder, return_tensors=True, **GREEDY)
    prompt = model.tokenizer.encode("The")
    assert recorder.values[0] == [prompt]
    assert recorder.values[-1] == []
    assert [*prompt, *(value[0] for value in recorder.values[1:-1])] == records[0]["generated_token_ids"]
    text = generator("The", streamer=pieces.append, return_full_text=False, **GREEDY)[0]["generated_text"]
    assert "".join(piece.text for piece in pieces) == text


def test_features_are_the_last_hidden_states(extractor: FeatureExtractionPipeline, model: neort.Model) -> None:
    rows = model.embed("The ship", pooling="none")
    assert np.array_equal(extractor("The ship"), rows[None])
    assert np.array_equal(extractor("The ship", return_tensors="np"), rows[None])
    assert np.array_equal(extractor(["The ship"])[0], rows[None])
    assert np.array_equal(next(extractor(text for text in ["The ship"])), rows[None])
    cut: dict[str, Any] = {"truncation": True, "tokenize_kwargs": {"max_length": 1}, "return_tensors": "np"}
    assert extractor("The ship", **cut).shape == (1, 1, model.spec.hidden_size)


@pytest.mark.parametrize(
    ("inputs", "options", "error", "says"),
    [
        ([{"role": "user", "content": "Hi"}], {}, neort.PromptError, "chat template"),
        ([[{"role": "user", "content": "Hi"}]], {}, neort.PromptError, "chat template"),
        (5, {}, neort.ArgumentTypeError, "not int"),
        (["a", 5], {}, neort.ArgumentTypeError, "text 1 is 5"),
        ("a", {"max_new_token": 5}, neort.ArgumentTypeError, "did you mean 'max_new_tokens'"),
        ("a", {"tools": [1]}, neort.ArgumentTypeError, "tools is for chats"),
        ("a", {"handle_long_generation": "cut"}, neort.ConfigError, "hole"),
        ("a", {"return_full_text": True, "return_text": True}, neort.ConfigError, "exclude each other"),
        ("a", {"return_tensors": True, "return_full_text": True}, neort.ConfigError, "exclude each other"),
        ("a", {"return_type": 7}, neort.ConfigError, "return_type is 7"),
        ("a", {"batch_size": 0}, neort.ConfigError, "at least 1"),
        ("a", {"batch_size": "2"}, neort.ArgumentTypeError, "batch_size is an integer"),
        ("a", {"prefix": 3}, neort.ArgumentTypeError, "prefix is text"),
        ("a", {"streamer": 3}, neort.ArgumentTypeError, "put and end"),
        ("a", {"streamer": str}, neort.ArgumentTypeError, "the class str; give an object"),
        ("a", {"streamer": print, "num_beams": 2}, neort.ConfigError, "num_beams is 2; leave out streamer"),
        ("a", {"streamer": print, "num_return_sequences": 3}, neort.ConfigError, "num_return_sequences is 3; leave"),
        ("a", {"negative_prompt": "b"}, neort.ConfigError, "negative_prompt has no effect"),
        ("a", {"generation_config": {}}, neort.ArgumentTypeError, "neort.GenerationConfig"),
        ("a", {"tokenizer_encode_kwargs": {"stride": 2}}, neort.ArgumentTypeError, "'stride'"),
        ("a", {"truncation": "middle"}, neort.ConfigError, "truncation is 'middle'"),
        ("a", {"max_length": "9"}, neort.ArgumentTypeError, "max_length='9' must be an integer"),
    ],
)
def test_what_a_generator_cannot_do_is_told(
    generator: TextGenerationPipeline, inputs: Any, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        generator(inputs, **options)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"pooling": "mean"}, neort.ArgumentTypeError, "no parameter 'pooling'"),
        ({"return_tensors": "pt"}, neort.ConfigError, "numpy"),
        ({"tokenize_kwargs": {"stride": 1}}, neort.ArgumentTypeError, "'stride'"),
        ({"tokenize_kwargs": {"truncation": True}, "truncation": True}, neort.ConfigError, "given twice"),
    ],
)
def test_what_an_extractor_cannot_do_is_told(
    extractor: FeatureExtractionPipeline, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        extractor("a", **options)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"task": "summarization"}, neort.ConfigError, "text-generation and feature-extraction"),
        ({"task": 3}, neort.ArgumentTypeError, "task is a name"),
        ({"device": "cuda"}, neort.ArgumentTypeError, "neort runs on the CPU"),
        ({"torch_dtype": "float16"}, neort.ArgumentTypeError, "neort-export"),
        ({"revision": "main"}, neort.ArgumentTypeError, "never a connection"),
        ({"tokenizer": "gpt2"}, neort.ArgumentTypeError, "own tokenizer"),
        ({"num_threads": 1}, neort.ArgumentTypeError, "give it to neort.load"),
        ({"model": "EleutherAI/gpt-neo-1.3B"}, neort.BundleError, "neort-export"),
        ({"temperature": -1}, neort.ConfigError, "temperature"),
        ({"max_token": 1}, neort.ArgumentTypeError, "did you mean"),
    ],
)
def test_what_a_pipeline_cannot_have_is_told_when_it_is_made(
    model: neort.Model, arguments: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        neort.pipeline(**({"model": model} | arguments))


def test_arguments_that_say_what_holds_anyway_are_taken(model: neort.Model) -> None:
    assert neort.pipeline(
        "text-generation", model, device=-1, device_map="auto", torch_dtype="auto", framework="pt", revision=None
    )("The", **GREEDY)
