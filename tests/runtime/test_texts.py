"""What a text holds beside its words: the stop string and special tokens, where options ask for them; what ended it."""

from __future__ import annotations

from typing import Any

import pytest

import neort

PROMPT = "The old man"  # ", and" goes on by far more than rounding, on whatever onnxruntime
AND = 279  # " and", the second of the new tokens
END = 0  # "<|endoftext|>"


@pytest.mark.parametrize(
    ("options", "text", "reason"),
    [
        ({"stop_strings": " an"}, ",", " an"),
        ({"stop_strings": " an", "include_stop_str_in_output": True}, ", an", " an"),
        ({"stop_strings": ["man,", " and"], "include_stop_str_in_output": True}, ",", "man,"),
        ({"stop_strings": ["man,", " and"], "stop_in_new_text": True}, ",", " and"),
        ({"stop_strings": [",", " an"], "stop_in_new_text": True, "min_new_tokens": 1}, ",", " an"),
        ({"stop_strings": [",", ", and"], "stop_in_new_text": True, "min_new_tokens": 1}, "", ", and"),
        ({"stop_strings": [","], "stop_in_new_text": True, "min_new_tokens": 2, "max_new_tokens": 2}, ", and", None),
        ({"stop_strings": [","], "min_new_tokens": 1}, "", ","),
        ({"eos_token_id": [END, AND]}, ",", AND),
        ({"eos_token_id": AND, "include_stop_str_in_output": True}, ", and", AND),
        ({"logit_bias": {END: 100.0}}, "", END),
        ({"logit_bias": {END: 100.0}, "include_stop_str_in_output": True}, "", END),
        ({"logit_bias": {END: 100.0}, "skip_special_tokens": False}, "", END),
        (
            {"logit_bias": {END: 100.0}, "skip_special_tokens": False, "include_stop_str_in_output": True},
            "<|endoftext|>",
            END,
        ),
        (
            {"allowed_token_ids": [END], "ignore_eos": True, "skip_special_tokens": False, "max_new_tokens": 2},
            "<|endoftext|><|endoftext|>",
            None,
        ),
        ({"max_new_tokens": 1}, ",", None),
    ],
)
def test_texts_hold_what_they_are_asked_to(
    model: neort.Model, options: dict[str, Any], text: str, reason: str | int | None
) -> None:
    options = {"max_new_tokens": 8, **options}
    completion = model.generate(PROMPT, **options)
    assert (completion.text, completion.stop_reason) == (text, reason)
    *_, last = pieces = list(model.stream(PROMPT, **options))
    assert "".join(piece.text for piece in pieces) == text
    assert last.stop_reason == reason


def test_a_grammar_that_ends_a_text_is_no_stop_reason(model: neort.Model) -> None:
    pytest.importorskip("llguidance")
    completion = model.generate(PROMPT, choice=["yes"], eos_token_id=None, ignore_eos=True)
    assert (completion.text, completion.finish_reason, completion.stop_reason) == ("yes", "stop", None)


def test_beams_know_what_ended_them(model: neort.Model) -> None:
    completion = model.generate(PROMPT, num_beams=2, stop_strings=" the", max_new_tokens=12)
    assert completion.stop_reason in (" the", None)
    assert (completion.stop_reason is None) == (completion.finish_reason == "length")
