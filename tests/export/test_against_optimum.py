"""The other exporter: optimum-onnx's fp32 graph of a checkpoint and ours compute the same."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import neort
from checkpoints import POSITIONS, WINDOW, random_ids

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    optimum = pytest.importorskip("optimum.onnxruntime", reason="needs optimum-onnx", exc_type=ImportError)
    exporters = pytest.importorskip("optimum.exporters.onnx", reason="needs optimum-onnx", exc_type=ImportError)

LENGTHS = [WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW + 5, POSITIONS - 8]


@pytest.fixture(scope="module")
def theirs(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Their graph with a key-value cache, traced by torch's older exporter, in onnxruntime."""
    folder = tmp_path_factory.mktemp("optimum")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated exporter, values that tracing makes constant
        exporters.main_export(str(checkpoint), folder, task="text-generation-with-past", do_validation=False)
        return optimum.ORTModelForCausalLM.from_pretrained(folder)


@pytest.fixture(scope="module")
def ours(fp32_bundle: Path) -> neort.Model:
    return neort.load(fp32_bundle)


def inputs(length: int) -> dict[str, torch.Tensor]:
    ids = torch.as_tensor(random_ids(length, 311))[None]
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@pytest.mark.parametrize("length", LENGTHS)
def test_logits_are_equal_within_and_beyond_the_window(length: int, theirs: Any, ours: neort.Model) -> None:
    given = inputs(length)
    logits = theirs(**given).logits[0].numpy()
    np.testing.assert_allclose(ours.logits(given["input_ids"][0].numpy()), logits, rtol=0, atol=1e-4)


@pytest.mark.parametrize("length", [1, WINDOW, 2 * WINDOW + 5])
def test_greedy_tokens_are_equal_over_three_windows(length: int, theirs: Any, ours: neort.Model) -> None:
    given = inputs(length)
    tokens = theirs.generate(**given, do_sample=False, max_new_tokens=3 * WINDOW, pad_token_id=0)[0, length:].tolist()
    assert len(set(tokens)) > 1
    assert list(ours.generate(given["input_ids"][0].numpy(), max_new_tokens=3 * WINDOW).token_ids) == tokens
