"""LoRA adapters: the weights that peft's merge_and_unload makes, or one sentence that names the kind."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPTNeoForCausalLM

import neort
from checkpoints import edit_json, random_ids, random_model, save, torch_logits
from neort.bundle import sha256_of
from neort_export import CheckpointError, VerificationError, export, verify
from neort_export.checkpoint import Checkpoint
from neort_export.reference import Reference

peft = pytest.importorskip("peft", reason="adapters are compared with peft: pip install 'neort[dev]'")

pytestmark = pytest.mark.filterwarnings("ignore")  # peft warns of much that the tests do on purpose

QUERY = "transformer.h.0.attn.attention.q_proj"
ALL = ["q_proj", "k_proj", "v_proj", "out_proj", "c_fc", "c_proj"]
HEAD, EMBEDDING = "lm_head.weight", "transformer.wte.weight"
UNTIED = "untied"

KINDS: dict[str, dict[str, Any]] = {
    "query and value": {},
    "all linear layers": {"target_modules": "all-linear"},
    "a pattern of names": {"target_modules": r".*\.(c_fc|out_proj)"},
    "one module by its full name": {"target_modules": [QUERY]},
    "rank-stabilized": {"use_rslora": True, "r": 6},
    "ranks and alphas of their own": {
        "target_modules": ALL,
        "rank_pattern": {"q_proj": 2, r"h\.1\.mlp\..*": 5},
        "alpha_pattern": {"k_proj": 3, "transformer.h.0.mlp.c_fc": 40},
    },
    "some layers": {"target_modules": ALL, "layers_to_transform": [1]},
    "some layers of a list": {"target_modules": ALL, "layers_to_transform": 0, "layers_pattern": "h"},
    "without some": {"target_modules": ALL, "exclude_modules": ["c_proj"]},
    "without a pattern": {"target_modules": ALL, "exclude_modules": r".*h\.0\..*"},
    "all biases": {"target_modules": ["c_fc"], "bias": "all"},
    "biases of the layers with factors": {"target_modules": ["c_fc", "out_proj"], "bias": "lora_only"},
    "factors with biases": {"target_modules": ["c_fc", "c_proj"], "lora_bias": True},
    "random from the start": {"init_lora_weights": "gaussian"},
    "orthogonal": {"init_lora_weights": "orthogonal", "r": 4},
    "positions": {"target_modules": ["wpe", "v_proj"]},
    "embedding and head, two matrices": {"target_modules": ["wte", "lm_head"], UNTIED: True},
    "a trained head": {"modules_to_save": ["lm_head"]},
    "a trained embedding": {"modules_to_save": ["wte"]},
    "a trained embedding that should be tied": {"modules_to_save": ["wte"], "ensure_weight_tying": True},
    "trained embedding and head": {"modules_to_save": ["wte", "lm_head"]},
    "trained head of a model that is not tied": {"modules_to_save": ["lm_head", "ln_f"], UNTIED: True},
    "trained norms": {"modules_to_save": ["ln_1", "ln_f"]},
    "a trained layer": {"target_modules": ["q_proj"], "modules_to_save": ["mlp"]},
}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, tuple[GPTNeoForCausalLM, Path]]:
    """A model whose head is the embedding (True), and one with a head of its own."""
    root = tmp_path_factory.mktemp("bases")
    models = {tied: random_model(tie_word_embeddings=tied) for tied in (True, False)}
    return {tied: (model, save(model, root / str(tied))) for tied, model in models.items()}


def train(model: GPTNeoForCausalLM, folder: Path, **options: Any) -> Path:
    """An adapter of a model, its weights random, as if it had learned something; saved by peft."""
    config = {"task_type": "CAUSAL_LM", "r": 3, "lora_alpha": 7, "target_modules": ["q_proj", "v_proj"]} | options
    adapted = peft.get_peft_model(copy.deepcopy(model), peft.LoraConfig(**config))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    adapted.save_pretrained(folder)
    return folder


def merged_by_peft(base: Path, adapter: Path) -> GPTNeoForCausalLM:
    model = GPTNeoForCausalLM.from_pretrained(base, dtype=torch.float32)
    return peft.PeftModel.from_pretrained(model, str(adapter)).merge_and_unload().eval()


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_is_merged_as_peft_merges_it(
    kind: str, bases: dict[bool, tuple[GPTNeoForCausalLM, Path]], tmp_path: Path
) -> None:
    options = dict(KINDS[kind])
    model, base = bases[not options.pop(UNTIED, False)]
    adapter = train(model, tmp_path / "adapter", **options)
    source, expected = Checkpoint(base, adapter=adapter), merged_by_peft(base, adapter)
    for name, parameter in expected.state_dict().items():
        torch.testing.assert_close(source.tensor(name), parameter, rtol=0, atol=1e-6, msg=name)
    assert source.tied == (expected.lm_head.weight is expected.transformer.wte.weight)
    ids = random_ids(12)
    (logits,) = Reference(source).logits([ids.tolist()])
    np.testing.assert_allclose(logits, torch_logits(expected, ids), rtol=0, atol=2e-5)


# Half precision, pickles, saved embeddings


@pytest.fixture(scope="module")
def plain(bases: dict[bool, tuple[GPTNeoForCausalLM, Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of the tied model; do not change it."""
    return train(bases[True][0], tmp_path_factory.mktemp("plain") / "adapter")


@pytest.fixture
def adapter(plain: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(plain, tmp_path / "adapter"))


@pytest.fixture
def base(bases: dict[bool, tuple[GPTNeoForCausalLM, Path]]) -> Path:
    """The tied model's folder."""
    return bases[True][1]


def change(adapter: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(adapter / "adapter_model.safetensors")
    edit(tensors)
    save_file(tensors, adapter / "adapter_model.safetensors", metadata={"format": "pt"})


def to_pickle(adapter: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    torch.save(load_file(file), adapter / "adapter_model.bin")
    file.unlink()


def to_half(adapter: Path) -> None:
    change(adapter, lambda tensors: tensors.update({n: t.to(torch.bfloat16) for n, t in tensors.items()}))


def with_embeddings(adapter: Path) -> None:
    """As save_embedding_layers does, after the embedding was trained."""
    matrix = torch.randn(311, 32, generator=torch.Generator().manual_seed(5))
    change(
        adapter, lambda tensors: tensors.update({f"base_model.model.{n}": matrix.clone() for n in (HEAD, EMBEDDING)})
    )


def named_as_in_the_live_model(adapter: Path) -> None:
    """As torch.save(model.state_dict()) has the names, and what DeepSpeed's zero_to_fp32.py makes of them."""

    def rename(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if ".lora_" in name]:
            tensors[name.removesuffix(".weight") + ".default.weight"] = tensors.pop(name)

    change(adapter, rename)


@pytest.mark.parametrize("form", [to_pickle, to_half, with_embeddings, named_as_in_the_live_model])
def test_adapters_in_other_forms_are_merged_as_peft_merges_them(
    form: Callable[[Path], None], base: Path, adapter: Path
) -> None:
    form(adapter)
    source, expected = Checkpoint(base, adapter=adapter), merged_by_peft(base, adapter)
    for name, parameter in expected.state_dict().items():
        torch.testing.assert_close(source.tensor(name), parameter, rtol=0, atol=1e-6, msg=name)


def test_rows_of_a_merged_weight_are_merged_alone(base: Path, adapter: Path) -> None:
    source, name = Checkpoint(base, adapter=adapter), f"{QUERY}.weight"
    np.testing.assert_allclose(source.rows(name, 3, 9), source.rows(name)[3:9], rtol=0, atol=1e-6)


# What is no plain LoRA, or no whole one


def setting(**changes: Any) -> Callable[[Path], None]:
    return lambda adapter: edit_json(adapter / "adapter_config.json", **changes)


def tensors(edit: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    return lambda adapter: change(adapter, edit)


A, B = (f"base_model.model.{QUERY}.lora_{letter}.weight" for letter in "AB")
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{64 * 'a'}\nsize 526000000\n"

REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "DoRA": (setting(use_dora=True), "use_dora is True, a kind of LoRA"),
    "QA-LoRA": (setting(use_qalora=True), "use_qalora is True"),
    "trained tokens": (setting(trainable_token_indices=[1, 2]), "trainable_token_indices is [1, 2]"),
    "trained parameters": (setting(target_parameters=["x"]), "target_parameters"),
    "layers repeated": (setting(layer_replication=[[0, 2]]), "layer_replication"),
    "a kind of the future": (setting(use_newest_lora={"n": 1}), "use_newest_lora"),
    "IA3": (setting(peft_type="IA3"), "peft_type is 'IA3'; neort merges LoRA adapters only"),
    "prompt tuning": (
        setting(peft_type="PROMPT_TUNING"),
        "peft_type is 'PROMPT_TUNING', which is no change of weights",
    ),
    "AdaLoRA": (setting(peft_type="ADALORA"), "peft_type is 'ADALORA'"),
    "no kind": (setting(peft_type=None), "peft_type is None"),
    "a classifier's": (setting(task_type="SEQ_CLS"), "task_type is 'SEQ_CLS'"),
    "PiSSA": (
        setting(init_lora_weights="pissa_niter_4"),
        "init_lora_weights is 'pissa_niter_4', which changes the base",
    ),
    "OLoRA": (setting(init_lora_weights="olora"), "init_lora_weights is 'olora'"),
    "LoftQ": (setting(init_lora_weights="loftq"), "init_lora_weights is 'loftq'"),
    "a rank that is no number": (setting(r="8"), "r is '8'; it must be a whole number"),
    "another rank": (setting(r=4), "has shape [3, 32], but the adapter's rank and the base model ask for [4, 32]"),
    "no scaling": (setting(lora_alpha=None), "lora_alpha is None"),
    "a pattern that is none": (setting(target_modules="(("), "is no pattern of names"),
    "targets without factors": (setting(target_modules=["q_proj", "v_proj", "c_fc"]), "has no factors of"),
    "factors that are not targeted": (setting(target_modules=["v_proj"]), "which adapter_config.json does not target"),
    "no settings": (lambda a: (a / "adapter_config.json").unlink(), "has no adapter_config.json"),
    "no tensors": (lambda a: (a / "adapter_model.safetensors").unlink(), "has neither adapter_model.safetensors nor"),
    "git without lfs": (lambda a: (a / "adapter_model.safetensors").write_text(POINTER), "pointer of git-lfs"),
    "settings of git without lfs": (lambda a: (a / "adapter_config.json").write_text(POINTER), "pointer of git-lfs"),
    "half a pair": (tensors(lambda t: t.pop(B)), "are no pair of factors"),
    "ZeRO-3 without gathering": (tensors(lambda t: t.update({A: torch.zeros(0)})), "has no numbers"),
    "a tensor too many": (tensors(lambda t: t.update({"base_model.model.score.weight": torch.ones(2, 32)})), "score"),
    "no tensor of a saved module": (setting(modules_to_save=["lm_head"]), "has no tensor of 'lm_head.weight', which"),
    "integers": (tensors(lambda t: t.update({A: t[A].to(torch.int8)})), "is int8"),
    "a longer embedding": (
        tensors(lambda t: t.update({f"base_model.model.{EMBEDDING}": torch.ones(313, 32)})),
        "has shape [313, 32], the base model's [311, 32]; train it without resize_token_embeddings()",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_adapters_that_are_not_merged_are_refused_by_their_kind(kind: str, base: Path, adapter: Path) -> None:
    damage, words = REFUSED[kind]
    damage(adapter)
    with pytest.raises(CheckpointError) as caught:
        Checkpoint(base, adapter=adapter)
    message = str(caught.value)
    assert words in message
    assert str(adapter) in message
    assert "\n" not in message


@pytest.mark.parametrize("target", ["wte", "lm_head"])
def test_factors_of_a_tied_matrix_are_refused_since_peft_merges_another_model_than_it_trained(
    target: str, bases: dict[bool, tuple[GPTNeoForCausalLM, Path]], tmp_path: Path
) -> None:
    model, base = bases[True]
    adapter = train(model, tmp_path / "adapter", target_modules=[target])
    with pytest.raises(CheckpointError, match="lm_head is the token embedding"):
        Checkpoint(base, adapter=adapter)


def test_a_number_that_is_none_is_found_when_its_factor_is_read(base: Path, adapter: Path) -> None:
    change(adapter, lambda tensors: tensors[B].view(-1)[5:6].fill_(float("nan")))
    with pytest.raises(CheckpointError, match=r"lora_B.weight' has NaN in row 1, column 2"):
        Checkpoint(base, adapter=adapter).tensor(f"{QUERY}.weight")


def test_an_adapter_below_the_given_folder_is_named(base: Path, adapter: Path) -> None:
    with pytest.raises(CheckpointError, match="it has the folder 'adapter', which has one"):
        Checkpoint(base, adapter=adapter.parent)


def test_an_adapter_of_another_model_is_refused(adapter: Path, tmp_path: Path) -> None:
    other = save(random_model(hidden_size=64), tmp_path / "other")
    with pytest.raises(CheckpointError, match="give the adapter's own base model"):
        Checkpoint(other, adapter=adapter)


def test_an_adapter_in_the_place_of_a_checkpoint_is_told_with_its_base(adapter: Path) -> None:
    edit_json(adapter / "adapter_config.json", base_model_name_or_path="EleutherAI/gpt-neo-125m")
    with pytest.raises(CheckpointError, match=f"neort-export EleutherAI/gpt-neo-125m --adapter {adapter} -o BUNDLE"):
        Checkpoint(adapter)


def test_a_bundle_names_its_adapter_and_is_not_the_base_s(base: Path, adapter: Path, tmp_path: Path) -> None:
    bundle = export(base, tmp_path / "bundle", adapter=adapter, quantization="fp32").path
    source = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))["source"]
    assert source["adapter"] == {"name": "adapter", "sha256": sha256_of(adapter / "adapter_model.safetensors")}
    with pytest.raises(VerificationError):
        verify(bundle, base)
    ids = random_ids(12)
    logits = neort.load(bundle).logits(ids.tolist())
    np.testing.assert_allclose(logits, torch_logits(merged_by_peft(base, adapter), ids), rtol=0, atol=2e-5)
