"""Hints: a name that another library has is told what to use here, and never a name that only looks like it."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import neort
from neort.errors import ArgumentTypeError
from neort.generation import OPTIONS, GenerationConfig
from neort.generation.hints import KNOWN_ELSEWHERE, LOAD_KNOWN_ELSEWHERE


def told(**options: Any) -> str:
    with pytest.raises(ArgumentTypeError, match="unknown generation option") as error:
        GenerationConfig(**options)
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("add_special_tokens", "gets the tokens that the bundle's tokenizer puts around texts"),
        ("timeout", "use max_time"),
        ("max_tokens", "use max_new_tokens"),
        ("stop", "use stop_strings"),
        ("n", "use num_return_sequences"),
        ("beam_size", "use num_beams"),
        ("num_beam_groups", "plain beams"),
        ("mirostat", "logits_processor"),
        ("typical", "use typical_p"),
        ("bad_words", "use bad_words_ids"),
        ("stopping_criteria", "an argument of Model.generate"),
        ("output_logits", "Model.logits"),
        ("return_full_text", "prompt + text"),
        ("streamer", "Model.stream"),
        ("pad_token", "pad_token_id"),
        ("assistant_model", "draft="),
        ("use_cache", "always used"),
        ("device", "CPU"),
        ("torch_dtype", "from the export"),
        ("threads", "neort.load takes it: use num_threads"),
    ],
)
def test_an_option_of_another_library_is_told_what_to_use(name: str, part: str) -> None:
    assert part in told(**{name: 5})
    assert "did you mean" not in told(**{name: 5})


@pytest.mark.parametrize(
    ("wrong", "right"), [("max_new_token", "max_new_tokens"), ("top-p", "top_p"), ("sede", "seed")]
)
def test_a_slip_of_the_keyboard_is_told_the_closest_name(wrong: str, right: str) -> None:
    assert f"did you mean '{right}'?" in told(**{wrong: 5})


def test_what_has_a_hint_is_no_option() -> None:
    assert not KNOWN_ELSEWHERE.keys() & OPTIONS.keys()
    assert not LOAD_KNOWN_ELSEWHERE.keys() & inspect.signature(neort.load).parameters.keys()


def test_every_option_of_transformers_is_one_or_has_a_hint() -> None:
    hf = pytest.importorskip("transformers.generation.configuration_utils", exc_type=ImportError)
    names = {name for name in hf.GenerationConfig().to_dict() if not name.startswith("_")}
    assert names - OPTIONS.keys() - KNOWN_ELSEWHERE.keys() == set()


def test_every_argument_of_transformers_generate_is_one_or_has_a_hint() -> None:
    hf = pytest.importorskip("transformers.generation.utils", exc_type=ImportError)
    names = inspect.signature(hf.GenerationMixin.generate).parameters.keys() - {"self", "kwargs"}
    assert names - KNOWN_ELSEWHERE.keys() == set()


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("device", "CPU"),
        ("torch_dtype", "neort-export"),
        ("load_in_8bit", "--quantization"),
        ("revision", "neort-export"),
        ("n_threads", "use num_threads"),
        ("n_ctx", "max_cache_bytes"),
        ("model_path", "first argument"),
        ("assistant_model", "use draft"),
        ("temperature", "give it to Model.generate"),
        ("num_thread", "did you mean 'num_threads'"),
    ],
)
def test_load_tells_what_to_use_for_an_argument_that_it_lacks(name: str, part: str) -> None:
    load: Any = neort.load
    with pytest.raises(ArgumentTypeError, match=f"load has no argument '{name}'") as error:
        load(**{name: 1})
    assert part in str(error.value)
