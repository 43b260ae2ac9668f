"""model.onnx in bare onnxruntime: a cache that grows, batches padded on either side, and neort's own weights."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from checkpoints import Floats, Ids
from interop import NEW_TOKENS, Case
from neort_export.graph import INLINE_BYTES

PAST = "past_key_values."


class Portable:
    """model.onnx, and the loop that its users write around it."""

    def __init__(self, bundle: Path) -> None:
        options = ort.SessionOptions()
        options.add_session_config_entry("session.x64quantprecision", "1")
        self.session: Any = ort.InferenceSession(bundle / "model.onnx", options, providers=["CPUExecutionProvider"])
        self.outputs = [value.name for value in self.session.get_outputs()]

    def empty(self, batch: int) -> dict[str, Floats]:
        caches = self.session.get_outputs()[1:]
        shapes = {v.name.replace("present.", PAST): (batch, v.shape[1], 0, v.shape[3]) for v in caches}
        return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}

    def run(self, ids: Ids, mask: Ids, past: dict[str, Floats]) -> tuple[Floats, dict[str, Floats]]:
        """New tokens [B, S], and a mask [B, past and S]; logits [B, S, V] and the present."""
        positions = np.maximum(mask.cumsum(1) - 1, 0)[:, -ids.shape[1] :]
        values = self.session.run(None, {"input_ids": ids, "attention_mask": mask, "position_ids": positions, **past})
        logits, *present = values
        names = (name.replace("present.", PAST) for name in self.outputs[1:])
        return logits, dict(zip(names, present, strict=True))

    def generate(self, ids: Ids, mask: Ids, count: int = NEW_TOKENS) -> list[list[int]]:
        """Greedy tokens of each row; the prompt may be padded on either side."""
        logits, past = self.run(ids, mask, self.empty(len(ids)))
        last = ids.shape[1] - 1 - mask[:, ::-1].argmax(1)
        tokens = [logits[np.arange(len(ids)), last].argmax(-1)]
        while len(tokens) < count:
            mask = np.concatenate([mask, np.ones((len(ids), 1), np.int64)], 1)
            logits, past = self.run(tokens[-1][:, None], mask, past)
            tokens.append(logits[:, 0].argmax(-1))
        return [row.tolist() for row in np.stack(tokens, 1)]


@pytest.fixture(scope="module")
def portable(case: Case) -> Portable:
    return Portable(case.bundle)


def test_prompts_alone_give_neort_s_tokens_and_logits(case: Case, portable: Portable) -> None:
    for prompt, logits in zip(case.prompts, case.logits, strict=True):
        ids = np.array([prompt])
        found, _ = portable.run(ids, np.ones_like(ids), portable.empty(1))
        np.testing.assert_allclose(found[0], logits, rtol=0, atol=case.tolerance)
    alone = [portable.generate(np.array([prompt]), np.ones((1, len(prompt)), np.int64))[0] for prompt in case.prompts]
    assert case.agrees(alone)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_batch_padded_on_either_side_gives_each_prompt_s_tokens(case: Case, portable: Portable, side: str) -> None:
    assert case.agrees(portable.generate(*case.padded(side)))


@pytest.mark.parametrize("side", ["left", "right"])
def test_logits_of_a_padded_batch_lie_where_its_tokens_lie(case: Case, portable: Portable, side: str) -> None:
    ids, mask = case.padded(side)
    logits, present = portable.run(ids, mask, portable.empty(len(ids)))
    assert logits.shape[:2] == ids.shape
    assert {value.shape[2] for value in present.values()} == {ids.shape[1]}
    for i, expected in enumerate(case.logits):
        np.testing.assert_allclose(logits[i][mask[i] == 1], expected, rtol=0, atol=case.tolerance)


def test_a_prompt_in_chunks_gives_the_logits_of_the_whole(case: Case, portable: Portable) -> None:
    prompt, expected = case.prompts[-1], case.logits[-1]
    past, at, found = portable.empty(1), 0, []
    for size in (1, 3, len(prompt) // 2, len(prompt)):
        ids = np.array([prompt[at : at + size]])
        at += ids.shape[1]
        logits, past = portable.run(ids, np.ones((1, at), np.int64), past)
        found.append(logits[0])
    np.testing.assert_allclose(np.concatenate(found), expected, rtol=0, atol=case.tolerance)


def test_past_and_present_may_be_the_same_memory(case: Case, portable: Portable) -> None:
    """A cache of fixed size, updated in place: the mask tells how much of it is in use."""
    prompt, size = case.prompts[-1], len(case.prompts[-1]) + NEW_TOKENS
    shapes = {name: (1, empty.shape[1], size, empty.shape[3]) for name, empty in portable.empty(1).items()}
    buffers = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    binding, tokens, ids, length = portable.session.io_binding(), [], np.array([prompt]), 0
    for name, buffer in buffers.items():
        place = ("cpu", 0, np.float32, buffer.shape, buffer.ctypes.data)
        binding.bind_input(name, *place)
        binding.bind_output(name.replace(PAST, "present."), *place)
    for _ in case.tokens[-1]:
        total = length + ids.shape[1]
        binding.bind_cpu_input("input_ids", ids)
        binding.bind_cpu_input("attention_mask", np.ones((1, total), np.int64))
        binding.bind_cpu_input("position_ids", np.arange(length, total)[None])
        binding.bind_output("logits", "cpu")
        portable.session.run_with_iobinding(binding)
        tokens.append(int(binding.get_outputs()[-1].numpy()[0, -1].argmax()))
        ids, length = np.array([tokens[-1:]]), total
    assert tokens == case.tokens[-1]


def test_the_signature_is_that_of_decoders_with_past(case: Case, portable: Portable) -> None:
    inputs = {value.name: (value.type, value.shape) for value in portable.session.get_inputs()}
    total = "past_sequence_length + sequence_length"
    assert list(inputs)[:3] == ["input_ids", "attention_mask", "position_ids"]
    assert inputs["input_ids"] == inputs["position_ids"] == ("tensor(int64)", ["batch_size", "sequence_length"])
    assert inputs["attention_mask"] == ("tensor(int64)", ["batch_size", total])
    for name, (kind, shape) in list(inputs.items())[3:]:
        assert name.startswith(PAST)
        assert (kind, shape[0], shape[2]) == ("tensor(float)", "batch_size", "past_sequence_length")
    logits, *present = portable.session.get_outputs()
    assert (logits.name, logits.shape[:2]) == ("logits", ["batch_size", "sequence_length"])
    assert [value.name.replace("present.", PAST) for value in present] == list(inputs)[3:]
    assert {value.shape[2] for value in present} == {total}


def test_both_graphs_read_the_same_places_of_the_weights_file(case: Case) -> None:
    decoder, model = (_tensors(case.bundle / name) for name in ("decoder.onnx", "model.onnx"))
    external = {name: tensor for name, tensor in decoder.items() if isinstance(tensor, ir.ExternalTensor)}
    assert external
    for name, tensor in external.items():
        other = model[name]
        assert isinstance(other, ir.ExternalTensor)
        assert (other.location, other.offset, other.length) == (tensor.location, tensor.offset, tensor.length)
    assert all(tensor.nbytes < INLINE_BYTES for name, tensor in model.items() if name not in external)


def test_layers_are_the_same_operators_in_both_graphs(case: Case) -> None:
    decoder, model = (_operators(case.bundle / name) for name in ("decoder.onnx", "model.onnx"))
    for kind in ("GroupQueryAttention", "LayerNormalization", "MatMulIntegerToFloat", "Gemm", "QuantizeLinear"):
        assert decoder[kind] == model[kind], kind


def _tensors(file: Path) -> dict[str, ir.TensorProtocol]:
    initializers = ir.load(file).graph.initializers
    return {name: value.const_value for name, value in initializers.items() if value.const_value is not None}


def _operators(file: Path) -> Counter[str]:
    return Counter(node.op_type for node in ir.load(file).graph)
