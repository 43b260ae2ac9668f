"""What `neort.load` says about arguments and about files whose hashes are right and whose contents are not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import neort
from neort.backend import thread_limit

ReplaceFile = Callable[[str, bytes], None]


@pytest.mark.parametrize("count", [10_000, 1 << 31, 1 << 63, 10**5000], ids=["10000", "2**31", "2**63", "10**5000"])
def test_more_threads_than_the_limit_are_refused_before_any_starts(count: int) -> None:
    with pytest.raises(neort.ConfigError, match=rf"num_threads is .*at least 1, and {thread_limit()} at most"):
        neort.load(num_threads=count)


@pytest.mark.parametrize("count", [4097, 1 << 40, 10**5000], ids=["4097", "2**40", "10**5000"])
def test_more_sequences_than_the_limit_are_refused(count: int) -> None:
    with pytest.raises(neort.ConfigError, match=r"max_batch_size is .*; it must be at most 4,096"):
        neort.load(max_batch_size=count)


@pytest.mark.parametrize("name", ["num_threads", "max_batch_size", "max_cache_bytes", "prefix_cache_bytes"])
@pytest.mark.parametrize("value", [True, 1.0, "1", [1]])
def test_a_count_of_another_type_is_refused(name: str, value: Any) -> None:
    options: dict[str, Any] = {name: value}
    with pytest.raises(neort.ArgumentTypeError, match=f"{name} is an integer, not {type(value).__name__}"):
        neort.load(**options)


@pytest.mark.parametrize("value", [["int8"], {"int8": 1}, None, 8])
def test_a_kind_of_cache_that_is_no_string_is_refused(value: Any) -> None:
    with pytest.raises(neort.ArgumentTypeError, match="kv_cache is one of fp32, int8, not"):
        neort.load(kv_cache=value)


@pytest.mark.parametrize(
    "option",
    [
        {"max_new_tokens": "128"},
        {"max_new_tokens": 0},
        {"max_new_tokens": [1] * 9999},
        {"pad_token_id": "\ud800" * 999},
    ],
    ids=lambda option: ascii(option)[:40],
)
def test_an_option_that_no_config_can_have_is_the_bundle_s_error_and_names_the_file(
    option: dict[str, Any], bundle_copy: Path, replace_file: ReplaceFile
) -> None:
    file = bundle_copy / "generation_config.json"
    replace_file(file.name, json.dumps({**json.loads(file.read_bytes()), **option}).encode())
    with pytest.raises(neort.BundleError) as caught:
        neort.load(bundle_copy)
    assert str(caught.value).startswith(f"{file}: ")
    assert "export it again" in str(caught.value)
    assert len(str(caught.value)) < 1000
    str(caught.value).encode()


@pytest.mark.parametrize(
    "option",
    [{"do_sample": "yes"}, {"eos_token_id": 1.5}, {"stop_strings": [1]}, {"repetition_penalty": 10**400},
     {"eos_token_id": {}}, {"top_p": -1, "do_sample": True}, {"stop_strings": {"\ud800" * 999: 1}},
     {"\ud800" * 999: 1}],
    ids=lambda option: ascii(option)[:40],
)  # fmt: skip
def test_an_option_that_cannot_be_honoured_is_named_and_the_bundle_loads(
    option: dict[str, Any], bundle_copy: Path, replace_file: ReplaceFile
) -> None:
    file = bundle_copy / "generation_config.json"
    replace_file(file.name, json.dumps({**json.loads(file.read_bytes()), **option}).encode())
    with pytest.warns(UserWarning, match="generation_config.json: ignored options") as told:
        model = neort.load(bundle_copy)
    [message] = [str(each.message) for each in told if each.category is UserWarning]
    assert len(message) < 1000
    message.encode()
    assert model.generate("The captain", max_new_tokens=2).finish_reason == "length"


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    def edit(contents: bytes) -> bytes:
        document = json.loads(contents)
        change(document)
        return json.dumps(document).encode()

    return edit


def nested_sequences(document: dict[str, Any]) -> None:
    step: dict[str, Any] = {"type": "ByteLevel"}
    for _ in range(300):
        step = {"type": "Sequence", "processors": [step]}
    document["post_processor"] = step


TOKENIZERS: dict[str, Callable[[bytes], bytes]] = {
    "deep nesting": lambda contents: b"[" * 100_000 + b"]" * 100_000,
    "sequences in sequences": edited(nested_sequences),
    "added_tokens are a number": edited(lambda d: d.update(added_tokens=5)),
    "added_tokens are an object": edited(lambda d: d.update(added_tokens={"a": 1})),
    "an id is a list": edited(lambda d: d["added_tokens"][0].update(id=[])),
    "an id is true": edited(lambda d: d["added_tokens"][0].update(id=True)),
    "processors are a number": edited(lambda d: d.update(post_processor={"type": "Sequence", "processors": 5})),
    "a type is a list": edited(lambda d: d.update(decoder={"type": ["Sequence"]})),
    "merges are an object": edited(lambda d: d["model"].update(merges={})),
    "a merge is a number": edited(lambda d: d["model"]["merges"].__setitem__(0, 5)),
    "a merge is a million letters": edited(lambda d: d["model"]["merges"].__setitem__(0, "x" * 1_000_000)),
    "no UTF-8": lambda contents: b"\xff" + contents,
    "a number of thousands of digits": lambda contents: b'{"model": ' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_tokenizer_of_another_shape_is_a_short_tokenizer_error(
    name: str, bundle_copy: Path, replace_file: ReplaceFile
) -> None:
    file = bundle_copy / "tokenizer.json"
    replace_file(file.name, TOKENIZERS[name](file.read_bytes()))
    with pytest.raises(neort.TokenizerError) as caught:
        neort.load(bundle_copy)
    assert str(file) in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_texts_with_tokens_beyond_the_model_s_vocabulary_are_refused(
    bundle_copy: Path, replace_file: ReplaceFile
) -> None:
    def move(document: dict[str, Any]) -> None:
        document["model"]["vocab"][max(document["model"]["vocab"], key=document["model"]["vocab"].__getitem__)] = 4096

    file = bundle_copy / "tokenizer.json"
    replace_file(file.name, edited(move)(file.read_bytes()))
    with pytest.raises(neort.TokenizerError, match=r"token of id 4096, and the model's end at 4095"):
        neort.load(bundle_copy)


def test_an_added_token_beyond_the_model_s_vocabulary_is_refused_in_a_prompt_alone(
    bundle_copy: Path, replace_file: ReplaceFile
) -> None:
    def add(document: dict[str, Any]) -> None:
        document["added_tokens"].append({"content": "[PAD]", "id": 4096, "special": True})

    file = bundle_copy / "tokenizer.json"
    replace_file(file.name, edited(add)(file.read_bytes()))
    model = neort.load(bundle_copy)
    assert len(model.generate("The PAD", max_new_tokens=2).token_ids) == 2
    with pytest.raises(neort.PromptError, match=r"token id 4096 .* of 4096 tokens \(0 to 4095\); leave it out"):
        model.generate("The [PAD]", max_new_tokens=2)


@pytest.mark.parametrize("place", ["Tokenizer.from_file", "DecoderSession"])
def test_no_memory_while_loading_is_an_error_with_a_remedy(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(f"neort.loading.{place}", fail)
    with pytest.raises(neort.OutOfMemoryError, match=r"no memory to load the bundled model.*free some"):
        neort.load()


def test_no_memory_that_onnxruntime_tells_of_is_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("Exception during initialization: std::bad_alloc")

    monkeypatch.setattr("neort.backend.session.open_session", fail)
    with pytest.raises(neort.OutOfMemoryError, match=r"no memory to load .*decoder\.onnx.*packed_weights"):
        neort.load()
