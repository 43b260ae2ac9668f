"""optimum's ORTModelForCausalLM loads a bundle as it is and generates neort's tokens with transformers' loop."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPTNeoForCausalLM

from checkpoints import WINDOW, Ids, random_ids
from interop import NEW_TOKENS, Case
from neort.backend import session_options

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    optimum = pytest.importorskip("optimum.onnxruntime", reason="needs optimum-onnx", exc_type=ImportError)


@pytest.fixture(scope="module")
def loaded(case: Case) -> Any:
    return load(case.bundle)


def load(bundle: Path) -> Any:
    """With the options of neort's own sessions: on AVX2 without VNNI onnxruntime's int8 products saturate otherwise."""
    options = session_options(2, (bundle / "model.onnx").read_bytes())
    return optimum.ORTModelForCausalLM.from_pretrained(
        bundle, file_name="model.onnx", use_cache=True, session_options=options
    )


def generate(model: Any, ids: Ids, mask: Ids, **options: Any) -> list[list[int]]:
    given = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
    out = model.generate(**given, do_sample=False, max_new_tokens=NEW_TOKENS, pad_token_id=0, **options)
    tokens: list[list[int]] = out[:, ids.shape[1] :].tolist()
    return tokens


def test_prompts_alone_give_neort_s_tokens_and_logits(case: Case, loaded: Any) -> None:
    for prompt, logits in zip(case.prompts, case.logits, strict=True):
        ids = torch.tensor([prompt])
        found = loaded(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0].numpy()
        np.testing.assert_allclose(found, logits, rtol=0, atol=case.tolerance)
    alone = [generate(loaded, np.array([p]), np.ones((1, len(p)), np.int64))[0] for p in case.prompts]
    assert case.agrees(alone)


def test_a_batch_padded_on_the_left_gives_each_prompt_s_tokens(case: Case, loaded: Any) -> None:
    """On the left is where transformers pads; on the right its own loop continues after the padding."""
    assert case.agrees(generate(loaded, *case.padded("left")))


@pytest.mark.parametrize("beams", [2, 5])
def test_beams_are_those_of_transformers(fp32_bundle: Path, model: GPTNeoForCausalLM, beams: int) -> None:
    """Beam search reorders the cache between steps."""
    ids = torch.as_tensor(random_ids(WINDOW + 3))[None]
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "num_beams": beams, "max_new_tokens": 2 * WINDOW}
    found, expected = (
        any_model.generate(**given, do_sample=False, pad_token_id=0) for any_model in (load(fp32_bundle), model)
    )
    assert found.tolist() == expected.tolist()
