"""What the manifest says in words follows from the numbers of the formats."""

from __future__ import annotations

import dataclasses

import pytest

from neort.bundle import FORMATS, BlockFormat, Format, format_of
from neort_export.quantization.limits import STRICT_LIMITS
from neort_export.quantization.recipe import recipe_section

WORDS = {
    "int8": {
        "weights": "symmetric int8, one scale per output channel",
        "activations": "uint8, one scale per token, at run time",
        "refinements": ["outlier folding", "zero point 16 after gelu_new"],
    },
    "int8-block": {
        "weights": "symmetric 8 bit, one scale per 256 weights of an output channel (fewer where that does not divide "
        "them); embedding int8 by rows",
        "activations": "int8, one scale per 256 channels of a token, at run time",
        "refinements": ["outlier folding"],
    },
    "int4": {
        "weights": "4 bit, one scale and zero point per 128 weights of an output channel (fewer where that does not "
        "divide them); lm_head symmetric 8 bit, one scale per 256; embedding int8 by rows",
        "activations": "int8, one scale per 128 channels of a token (lm_head 256), at run time",
        "refinements": ["outlier folding", "GPTQ in chunks of 256 channels, damping 0.01"],
    },
    "fp32": {},
}


@pytest.mark.parametrize("name", list(FORMATS))
def test_every_format_is_told_in_words(name: str) -> None:
    assert recipe_section(known(name)) == WORDS[name]


def test_a_zero_point_after_gelu_new_is_told_of_models_that_have_it() -> None:
    assert recipe_section(known("int8"), gelu_new=False)["refinements"] == ["outlier folding"]


def test_other_numbers_are_told_in_other_words() -> None:
    form = dataclasses.replace(known("int4"), linears=BlockFormat(4, 32), head=BlockFormat(4, 32), compensated=False)
    assert recipe_section(form) == {
        "weights": "symmetric 4 bit, one scale per 32 weights of an output channel (fewer where that does not divide "
        "them); embedding int8 by rows",
        "activations": "int8, one scale per 32 channels of a token, at run time",
        "refinements": ["outlier folding"],
    }


def test_every_format_has_strict_limits() -> None:
    assert list(STRICT_LIMITS) == list(FORMATS)


def known(name: str) -> Format:
    form = format_of(name)
    assert form is not None
    return form
