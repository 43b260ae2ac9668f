"""NaN, infinite and enormous weights: refused by name and place in every format, never turned into ordinary numbers."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from safetensors.torch import load_file, save_file

from checkpoints import Floats, random_model, save, weight
from neort.bundle import BLOCKS_OF_4_BITS, BLOCKS_OF_8_BITS, Bundle, Quantization
from neort_export import CheckpointError, Limits, VerificationError, export
from neort_export.checkpoint import Checkpoint
from neort_export.cli import main
from neort_export.graph import build as graphs
from neort_export.graph.trace import trace
from neort_export.quantization.blockwise import BlockFormat, Blocks, quantize_rows
from neort_export.quantization.gptq import compensated_rows, inverse_factors
from neort_export.quantization.tensors import BlockMemory, in_blocks, row_products, scaled
from neort_export.verification.int8_cache import write_int8_cache

FORMATS: list[Quantization] = ["fp32", "int8", "int8-block", "int4"]
NO_LIMITS = Limits(max_abs_diff=math.inf, mean_kl=math.inf, perplexity_ratio=math.inf)
VALUES = {"NaN": math.nan, "infinity": math.inf, "-infinity": -math.inf}
PLACES = {  # the tokenizer of the tests has 257 entries, so no text has the token 300
    "embedding of an unused token": ("transformer.wte.weight", (300, 5)),
    "last position": ("transformer.wpe.weight", (127, 3)),
    "packed linear": ("transformer.h.1.attn.attention.v_proj.weight", (31, 0)),
    "linear": ("transformer.h.0.mlp.c_proj.weight", (17, 100)),
    "bias": ("transformer.h.1.mlp.c_fc.bias", (127,)),
    "small bias": ("transformer.h.0.attn.attention.out_proj.bias", (9,)),
    "layer norm": ("transformer.h.0.ln_1.weight", (2,)),
    "untied head": ("lm_head.weight", (310, 31)),
}
Damage = Callable[..., Path]


@pytest.fixture(scope="module")
def untied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random checkpoint with a head of its own; do not change it."""
    return save(random_model(tie_word_embeddings=False), tmp_path_factory.mktemp("untied") / "checkpoint")


@pytest.fixture(scope="module")
def traced(untied: Path) -> ir.Model:
    return trace(Checkpoint(untied).config)


@pytest.fixture(autouse=True)
def traced_once(monkeypatch: pytest.MonkeyPatch, traced: ir.Model) -> None:
    """All checkpoints of this module have one configuration."""
    monkeypatch.setattr(graphs, "trace", lambda _: traced.clone())


@pytest.fixture
def damaged(untied: Path, tmp_path: Path) -> Damage:
    """A copy of the checkpoint with some weights set to a value."""

    def damage(name: str, *places: tuple[int, ...], value: float) -> Path:
        folder = tmp_path / "checkpoint"
        if not folder.exists():
            shutil.copytree(untied, folder)
        tensors = load_file(folder / "model.safetensors")
        for place in places:
            tensors[name][place] = value
        save_file(tensors, folder / "model.safetensors")
        return folder

    return damage


def place_in_words(place: tuple[int, ...]) -> str:
    return ", ".join(f"{axis} {number}" for axis, number in zip(("row", "column"), place, strict=False))


# NaN and infinite weights


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("where", PLACES)
def test_weights_that_are_no_numbers_are_refused_as_they_are_read(where: str, kind: str, damaged: Damage) -> None:
    name, place = PLACES[where]
    folder = damaged(name, place, value=VALUES[kind])
    with pytest.raises(CheckpointError) as caught:
        Checkpoint(folder).rows(name, place[0], place[0] + 1)
    message = str(caught.value)
    assert f"{folder / 'model.safetensors'}: tensor {name!r} has {kind} in {place_in_words(place)};" in message
    assert "fetch or convert the checkpoint again" in message
    assert "\n" not in message
    Checkpoint(folder).rows(name, 0, place[0])  # the rows above are sound


@pytest.mark.parametrize("pickle", [True, False], ids=["pickle", "safetensors"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_they_are_refused_in_every_form_of_checkpoint(dtype: torch.dtype, pickle: bool, damaged: Damage) -> None:
    name, place = PLACES["linear"]
    folder = damaged(name, place, value=math.inf)
    file = folder / "model.safetensors"
    tensors = {key: tensor.to(dtype) for key, tensor in load_file(file).items()}
    if pickle:
        file.unlink()
        file = folder / "pytorch_model.bin"
        torch.save(tensors, file)
    else:
        save_file(tensors, file)
    with pytest.raises(CheckpointError) as caught:
        Checkpoint(folder).tensor(name)
    assert f"{file}: tensor {name!r} has infinity in row 17, column 100" in str(caught.value)


def test_the_first_of_several_is_named(damaged: Damage) -> None:
    name = "lm_head.weight"
    damaged(name, (200, 1), value=math.inf)
    folder = damaged(name, (7, 30), (9, 0), value=math.nan)
    with pytest.raises(CheckpointError, match="NaN in row 7, column 30"):
        Checkpoint(folder).tensor(name)
    with pytest.raises(CheckpointError, match="infinity in row 200, column 1"):
        Checkpoint(folder).rows(name, 10)


def test_finite_weights_whose_sum_overflows_are_read(damaged: Damage) -> None:
    largest = float(np.finfo(np.float32).max)
    folder = damaged("transformer.wte.weight", (300,), value=largest)
    np.testing.assert_array_equal(Checkpoint(folder).rows("transformer.wte.weight", 300, 301), np.float32(largest))


@pytest.mark.parametrize("kind", ["NaN", "-infinity"])
@pytest.mark.parametrize("where", PLACES)
def test_no_fp32_bundle_is_made_of_them(where: str, kind: str, damaged: Damage, tmp_path: Path) -> None:
    """fp32 without verification reads each weight once, when it is written."""
    name, place = PLACES[where]
    folder = damaged(name, place, value=VALUES[kind])
    with pytest.raises(CheckpointError, match=rf"{name}' has {kind} in {place_in_words(place)};"):
        export(folder, tmp_path / "out" / "bundle", quantization="fp32", verify=False)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("verify", [True, False], ids=["verified", "not verified"])
@pytest.mark.parametrize(("where", "kind"), [("embedding of an unused token", "NaN"), ("small bias", "infinity")])
@pytest.mark.parametrize("quantization", FORMATS)
def test_no_bundle_of_any_format_is_made_of_them(
    quantization: Quantization, where: str, kind: str, verify: bool, damaged: Damage, tmp_path: Path
) -> None:
    name, place = PLACES[where]
    folder = damaged(name, place, value=VALUES[kind])
    with pytest.raises(CheckpointError, match=rf"{name}' has {kind} in {place_in_words(place)};"):
        export(folder, tmp_path / "out" / "bundle", quantization=quantization, verify=verify, limits=NO_LIMITS)
    assert list((tmp_path / "out").iterdir()) == []


def test_the_command_says_it_in_one_line(damaged: Damage, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = damaged(*PLACES["untied head"], value=math.nan)
    assert main([str(folder), "-o", str(tmp_path / "bundle"), "--quantization", "fp32", "--no-verify"]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if not line.endswith(" ...")]
    assert line.startswith(f"neort-export: {folder / 'model.safetensors'}: tensor 'lm_head.weight' has NaN in row 310")


@pytest.mark.filterwarnings("ignore:.*is another matrix")
def test_a_stored_head_may_hold_anything_where_transformers_does_not_use_it(tmp_path: Path) -> None:
    folder = save(random_model(), tmp_path / "checkpoint")
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"lm_head.weight": torch.full((311, 32), math.nan)}, folder / "model.safetensors")
    source = Checkpoint(folder)
    if source.tied:
        assert torch.equal(source.tensor("lm_head.weight"), tensors["transformer.wte.weight"])
    else:
        with pytest.raises(CheckpointError, match=r"tensor 'lm_head.weight' has NaN in row 0"):
            source.tensor("lm_head.weight")


# Finite weights near float32's limit


@pytest.mark.parametrize("quantization", FORMATS[1:])
def test_activations_that_overflow_in_torch_are_refused(
    quantization: Quantization, damaged: Damage, tmp_path: Path
) -> None:
    folder = damaged("transformer.h.0.attn.attention.v_proj.weight", (5, 3), (5, 4), value=3e38)
    with pytest.raises(CheckpointError) as caught:
        export(folder, tmp_path / "out" / "bundle", quantization=quantization, verify=False)
    message = str(caught.value)
    assert message.startswith(f"{folder}: torch computes NaN or infinite inputs of 'transformer.h.0.attn.attention.out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("quantization", FORMATS[1:])
def test_a_folded_bias_that_overflows_is_refused(quantization: Quantization, damaged: Damage, tmp_path: Path) -> None:
    damaged("transformer.ln_f.bias", (3,), value=20)
    folder = damaged("lm_head.weight", (300, 3), value=1e38)
    with pytest.raises(CheckpointError, match=r"'lm_head.bias' gives infinity in row 300: .*--quantization fp32"):
        export(folder, tmp_path / "out" / "bundle", quantization=quantization, verify=False)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("kind", VALUES)
def test_a_graph_that_overflows_gets_no_int8_cache(kind: str, fp32_bundle: Path, tmp_path: Path) -> None:
    """Weights can be such that torch's activations stay finite and those of the quantized graph do not."""
    decoder = ir.load(fp32_bundle / "decoder.onnx")
    beta = decoder.graph.initializers["transformer.h.1.ln_1.bias"]
    beta.const_value = ir.tensor(np.full(32, VALUES[kind], np.float32))
    ir.save(decoder, tmp_path / "decoder.onnx")
    (tmp_path / "weights.data").symlink_to(fp32_bundle / "weights.data")
    with pytest.raises(CheckpointError, match=r"its cache 1\.key: .*--quantization fp32"):
        write_int8_cache(tmp_path, Bundle(fp32_bundle).spec, [[1, 2, 3]], lambda runner: runner.run())


def test_an_fp32_bundle_keeps_enormous_weights_as_they_are(damaged: Damage, tmp_path: Path) -> None:
    folder = damaged("lm_head.weight", (300, 3), value=-3e38)
    bundle = export(folder, tmp_path / "bundle", quantization="fp32", verify=False).path
    head = ir.load(bundle / "decoder.onnx").graph.initializers["lm_head.weight"].const_value
    assert head is not None
    assert head.numpy()[300, 3] == np.float32(-3e38)


def test_a_model_that_yields_infinite_logits_is_not_verified(damaged: Damage, tmp_path: Path) -> None:
    damaged("transformer.ln_f.bias", (3,), value=20)
    folder = damaged("lm_head.weight", (300, 3), value=1e38)
    with pytest.raises(VerificationError, match="torch computes NaN or infinite values"):
        export(folder, tmp_path / "out" / "bundle", quantization="fp32", limits=NO_LIMITS)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_scaled_weight_that_overflows_is_refused_when_its_rows_are_computed() -> None:
    rows = np.ones((4, 3), np.float32)
    rows[2, 1] = 1e38
    tensor = scaled(weight(rows), columns=np.array([1, 10, 1], np.float32))
    tensor.name = "layer.weight"
    np.testing.assert_array_equal(tensor.rows(0, 2), [[1, 10, 1]] * 2)
    with pytest.raises(CheckpointError, match=r"'layer.weight' gives infinity in row 2, column 1"):
        tensor.rows(1, 4)
    with pytest.raises(CheckpointError, match=r"infinity in row 0, column 0"):
        scaled(weight(rows), rows=np.array([np.inf, 1, 1, 1], np.float32)).rows(0, 4)


def test_a_product_that_overflows_is_infinite() -> None:
    rows = np.array([[1e38, 1e38], [1, 2]], np.float32)
    np.testing.assert_array_equal(row_products(weight(rows), np.array([9, 9], np.float32)), [np.inf, 27])


def plain(rows: Floats, form: BlockFormat) -> Blocks:
    return quantize_rows(rows, form)


def compensated(rows: Floats, form: BlockFormat) -> Blocks:
    x = np.random.default_rng(0).normal(size=(100, 64)) + 2
    return compensated_rows(rows, form, inverse_factors((x.T @ x)[None] / 100))


@pytest.mark.parametrize("quantize", [plain, compensated])
def test_a_block_whose_scale_overflows_is_refused(quantize: Callable[[Floats, BlockFormat], Blocks]) -> None:
    form = BLOCKS_OF_4_BITS.fitting(64)
    rows = np.ones((3, 64), np.float32)
    rows[1, [3, 9]] = 3e38, -3e38
    tensor = weight(rows)
    tensor.name = "layer.weight"
    for part in in_blocks(tensor, form, lambda block: quantize(block, form), BlockMemory()):
        with pytest.raises(CheckpointError, match=r"'layer.weight' gives \S+ in row 1, block 0"):
            part.rows(0, 3)


def test_symmetric_blocks_reach_float32_s_limit() -> None:
    form = BLOCKS_OF_8_BITS.fitting(32)
    rows = np.zeros((1, 32), np.float32)
    rows[0, :2] = 3.4e38, -3.4e38
    _, scales, _ = in_blocks(weight(rows), form, lambda block: quantize_rows(block, form), BlockMemory())
    assert np.isfinite(scales.rows(0, 1)).all()


def test_a_row_is_refused_where_making_up_for_errors_overflows() -> None:
    """Channels that say nearly the same: what one lacks the next ones take over, until they leave float32."""
    form, rng = BLOCKS_OF_4_BITS.fitting(32), np.random.default_rng(0)
    x = rng.normal(size=(100, 1)) + 0.01 * rng.normal(size=(100, 32))
    factors = inverse_factors((x.T @ x)[None] / 100)
    rows = (1e38 * rng.uniform(3.0, 3.4, (2000, 32))).astype(np.float32)
    assert np.isfinite(quantize_rows(rows, form).scales).all()
    _, scales, _ = in_blocks(weight(rows), form, lambda block: compensated_rows(block, form, factors), BlockMemory())
    with pytest.raises(CheckpointError, match=r"NaN in row \d+, block 0"):
        scales.rows(0, 2000)
