"""Checkpoints of every kind that people have: the model that transformers' AutoModelForCausalLM loads, or a refusal.

Each kind is given to transformers, too: what neort takes is what transformers loads whole, and what neort refuses is
what transformers reports missing or unexpected, or cannot load.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPTNeoForCausalLM, GPTNeoForSequenceClassification

from checkpoints import edit_json, random_gpt2, random_model, save
from neort_export import CheckpointError
from neort_export.checkpoint import Checkpoint

HEAD, EMBEDDING = "lm_head.weight", "transformer.wte.weight"
ATTENTION = "transformer.h.0.attn.attention."
FIVE = int(transformers.__version__.partition(".")[0]) >= 5

State = dict[str, torch.Tensor]
Make = Callable[[Path, State], object]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tied model; do not change it."""
    return save(random_model(), tmp_path_factory.mktemp("base") / "model")


def untied(folder: Path) -> Path:
    edit_json(folder / "config.json", tie_word_embeddings=False)
    return folder


def write(folder: Path, state: Mapping[str, torch.Tensor]) -> None:
    save_file(dict(state), folder / "model.safetensors", metadata={"format": "pt"})


def pickled(folder: Path, state: object) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")


def sharded(folder: Path, state: State, index: Mapping[str, int] | None = None) -> None:
    """Two shards by the number of each tensor, and an index, which may be another."""
    (folder / "model.safetensors").unlink()
    half = {name: 1 + (number >= len(state) // 2) for number, name in enumerate(state)}
    files = {number: f"model-0000{number}-of-00002.safetensors" for number in (1, 2)}
    for number, file in files.items():
        save_file({n: t for n, t in state.items() if half[n] == number}, folder / file, metadata={"format": "pt"})
    weight_map = {name: files[number] for name, number in (half | dict(index or {})).items() if number}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def without(state: State, *names: str) -> State:
    return {name: tensor for name, tensor in state.items() if name not in names}


def renamed(rename: Callable[[str], str]) -> Make:
    return lambda folder, state: write(folder, {rename(name): tensor for name, tensor in state.items()})


def bare(name: str) -> str:
    return name.removeprefix("transformer.")


BUFFERS = {f"{ATTENTION}bias": torch.ones(1, 1, 9, 9), f"{ATTENTION}masked_bias": torch.tensor(-1e9)}
OTHER = torch.randn(311, 32, generator=torch.Generator().manual_seed(9))

TAKEN: dict[str, Make] = {
    "as saved": write,
    "two shards": sharded,
    "a pickle": pickled,
    "parameters": lambda f, s: pickled(f, {n: torch.nn.Parameter(t) for n, t in s.items()}),
    "buffers of torch.nn": lambda f, s: pickled(f, {n: torch.nn.Buffer(t.clone()) for n, t in s.items()}),
    "tensors that are not contiguous": lambda f, s: pickled(
        f, {n: t.repeat_interleave(2, -1)[..., ::2] for n, t in s.items()}
    ),
    "tensors that share storage": lambda f, s: pickled(f, s | {HEAD: s[EMBEDDING]}),
    "half precision": lambda f, s: write(f, {n: t.to(torch.bfloat16) for n, t in s.items()}),
    "double precision": lambda f, s: write(f, {n: t.double() for n, t in s.items()}),
    "views with another sign": lambda f, s: pickled(f, {n: torch._neg_view(-t) for n, t in s.items()}),
    "a counter beside the tensors": lambda f, s: pickled(f, s | {"epoch": 3}),
    "no metadata": lambda f, s: save_file(s, f / "model.safetensors"),
    "the attention mask of 2021": lambda f, s: write(f, s | BUFFERS),
    "without the prefix": renamed(bare),
    "the head, equal to the embedding": lambda f, s: write(f, s | {HEAD: s[EMBEDDING].clone()}),
    "a head of its own": lambda f, s: write(untied(f), s | {HEAD: OTHER}),
    "safetensors beside a pickle": lambda f, s: torch.save({}, f / "pytorch_model.bin"),
    "a single file beside an index": lambda f, s: (f / "model.safetensors.index.json").write_text("{}"),
    "labels of a classifier": lambda f, s: edit_json(
        f / "config.json", architectures=["GPTNeoForSequenceClassification"]
    ),
}

REFUSED: dict[str, tuple[Make, str]] = {
    "an untied head that is missing": (
        lambda f, s: untied(f),
        "has no tensor 'lm_head.weight', which transformers would",
    ),
    "no embedding at all": (lambda f, s: write(f, without(s, EMBEDDING)), f"has no tensor {EMBEDDING!r}"),
    "a layer's tensor missing": (
        lambda f, s: write(f, without(s, f"{ATTENTION}q_proj.weight")),
        "q_proj.weight', which",
    ),
    "more layers than there are": (
        lambda f, s: edit_json(
            f / "config.json", num_layers=3, attention_types=[[["global"], 3]], attention_layers=["global"] * 3
        ),
        "has tensors of 2 layers, but num_layers in its config.json is 3",
    ),
    "fewer layers than there are": (
        lambda f, s: edit_json(
            f / "config.json", num_layers=1, attention_types=[[["global"], 1]], attention_layers=["global"]
        ),
        "has tensors of 2 layers, but num_layers in its config.json is 1: the export would leave out",
    ),
    "a bias of attention": (lambda f, s: write(f, s | {f"{ATTENTION}q_proj.bias": torch.ones(32)}), "q_proj.bias"),
    "a bias of the head": (lambda f, s: write(f, s | {"lm_head.bias": torch.ones(311)}), "'lm_head.bias'"),
    "LoRA factors": (
        lambda f, s: write(f, s | {f"{ATTENTION}q_proj.lora_A.weight": torch.ones(4, 32)}),
        "LoRA factors that are not merged into the weights",
    ),
    "a peft model": (
        lambda f, s: write(
            f, {f"base_model.model.{n}": t for n, t in s.items()} | {"base_model.model.lora_B": torch.ones(2, 2)}
        ),
        "or save the adapter alone (model.save_pretrained(...)) and give its folder with --adapter",
    ),
    "two matrices of other lengths that are tied": (
        lambda f, s: write(f, s | {HEAD: torch.ones(300, 32)}),
        "lm_head.weight has shape [300, 32], the token embedding [311, 32]",
    ),
    "ZeRO-3 without gathering": (
        lambda f, s: write(f, {n: t if t.ndim < 2 else torch.zeros(0) for n, t in s.items()}),
        "has shape [0] and none of its numbers",
    ),
    "another shape": (lambda f, s: edit_json(f / "config.json", vocab_size=300), "config.json asks for [300, 32]"),
}


@pytest.fixture
def folder(base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base, tmp_path / "model"))


def by_transformers(folder: Path) -> tuple[GPTNeoForCausalLM, dict[str, Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    return model, info


def assert_same(source: Checkpoint, model: GPTNeoForCausalLM) -> None:
    state = model.state_dict()
    assert source.expected_shapes().keys() | {HEAD} == state.keys()
    for name in state:
        assert torch.equal(source.tensor(name), state[name]), name


@pytest.mark.parametrize("kind", TAKEN)
def test_what_neort_takes_has_the_tensors_of_transformers_model(kind: str, folder: Path) -> None:
    TAKEN[kind](folder, load_file(folder / "model.safetensors"))
    model, info = by_transformers(folder)
    assert not info["missing_keys"]
    assert_same(Checkpoint(folder), model)


GPT2_BUFFERS = {
    "h.0.attn.bias": torch.ones(1, 1, 9, 9, dtype=torch.uint8),
    "h.0.attn.masked_bias": torch.tensor(-1e4),
}


@pytest.mark.parametrize("tied", [True, False])
def test_gpt2_s_files_have_their_linear_layers_transposed_and_openai_s_no_prefix(tied: bool, tmp_path: Path) -> None:
    folder = save(random_gpt2(tie_word_embeddings=tied), tmp_path / "model")
    if tied:
        state = load_file(folder / "model.safetensors")
        write(folder, {bare(name): tensor for name, tensor in state.items()} | GPT2_BUFFERS)
    source, (model, info) = Checkpoint(folder), by_transformers(folder)
    assert not info["missing_keys"]
    for name, tensor in model.state_dict().items():
        stored = tensor.T if source.is_linear(name) else tensor
        assert torch.equal(source.tensor(name), stored), name


@pytest.mark.parametrize("kind", REFUSED)
def test_what_neort_refuses_is_not_whole_to_transformers(kind: str, folder: Path) -> None:
    make, words = REFUSED[kind]
    make(folder, load_file(folder / "model.safetensors"))
    assert not is_whole_to_transformers(folder)
    assert words in refusal(folder)


def is_whole_to_transformers(folder: Path) -> bool:
    try:
        _, info = by_transformers(folder)
    except (RuntimeError, ValueError):
        return False
    return not (info["missing_keys"] or info["unexpected_keys"] or info["mismatched_keys"])


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        Checkpoint(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


# Tied matrices, of which the releases of transformers make different models


def test_a_trained_head_beside_a_tied_configuration_is_what_transformers_makes_of_it_and_is_told(folder: Path) -> None:
    write(folder, load_file(folder / "model.safetensors") | {HEAD: OTHER})
    with pytest.warns(UserWarning, match="is another matrix than") as told:
        source = Checkpoint(folder)
    assert_same(source, by_transformers(folder)[0])
    assert source.tied == (not FIVE)
    (sentence,) = [str(each.message) for each in told]
    assert sentence.startswith(f"{folder / 'model.safetensors'}: {HEAD}")
    assert "set tie_word_embeddings to false in config.json" in sentence
    assert ("the stored head, as transformers 5 does" if FIVE else "the embedding, as transformers 4 does") in sentence


def test_one_number_makes_another_head(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    head = state[EMBEDDING].clone()
    head[310, 31] += 1
    write(folder, state | {HEAD: head})
    with pytest.warns(UserWarning, match="is another matrix than"):
        Checkpoint(folder)


def test_tied_weights_under_the_head_s_name_alone_are_the_embedding(folder: Path) -> None:
    """transformers 4 leaves both matrices empty and cannot run such a model."""
    state = load_file(folder / "model.safetensors")
    write(folder, without(state, EMBEDDING) | {HEAD: state[EMBEDDING]})
    source = Checkpoint(folder)
    assert source.tied
    assert torch.equal(source.tensor(EMBEDDING), state[EMBEDDING])
    if FIVE:
        assert_same(source, by_transformers(folder)[0])


def test_a_value_head_is_left_out_and_told(folder: Path) -> None:
    write(folder, load_file(folder / "model.safetensors") | {"v_head.summary.weight": torch.ones(1, 32)})
    with pytest.warns(UserWarning, match=r"'v_head.summary.weight' belong to a value head"):
        source = Checkpoint(folder)
    assert_same(source, by_transformers(folder)[0])


def test_a_multiple_choice_head_is_left_out_and_told(tmp_path: Path) -> None:
    folder = save(random_gpt2(), tmp_path / "model")
    write(folder, load_file(folder / "model.safetensors") | {"multiple_choice_head.summary.bias": torch.ones(1)})
    with pytest.warns(UserWarning, match=r"'multiple_choice_head.summary.bias' belong to a head that chooses"):
        Checkpoint(folder)


def test_the_one_number_that_older_deepspeed_leaves_of_a_tensor_is_told(folder: Path) -> None:
    write(folder, load_file(folder / "model.safetensors") | {EMBEDDING: torch.ones(1)})
    assert "has shape [1] and none of its numbers, as where DeepSpeed" in refusal(folder)


def test_a_model_without_biases_is_refused_with_the_line_that_writes_zeros(tmp_path: Path) -> None:
    folder = save(random_gpt2(), tmp_path / "model")
    state = load_file(folder / "model.safetensors")
    write(folder, {name: tensor for name, tensor in state.items() if not name.endswith(".bias")})
    sentence = refusal(folder)
    assert "has no biases" in sentence
    program = sentence.split('python -c "')[1].rstrip('"')
    with contextlib.chdir(folder):
        exec(program, {})
    assert not Checkpoint(folder).tensor("transformer.ln_f.bias").any()


def test_a_classifier_is_refused_by_its_name(tmp_path: Path) -> None:
    config = random_model().config
    config.pad_token_id = 0
    folder = save(GPTNeoForSequenceClassification(config), tmp_path / "model")
    assert "holds 'score.weight', the head of a 'GPTNeoForSequenceClassification'" in refusal(folder)


def test_an_adapter_beside_weights_is_refused_since_peft_decides_what_transformers_loads(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "a/b"}')
    assert "holds weights and adapter_config.json" in refusal(folder)


def test_weights_that_transformers_reads_from_another_file_are_refused(folder: Path) -> None:
    edit_json(folder / "config.json", transformers_weights="other.safetensors")
    assert "transformers_weights is 'other.safetensors'" in refusal(folder)


def test_a_configuration_without_a_model_type_is_told_the_line(folder: Path) -> None:
    settings = json.loads((folder / "config.json").read_text())
    del settings["model_type"]
    (folder / "config.json").write_text(json.dumps(settings))
    assert 'write "model_type": "gpt_neo" there' in refusal(folder)


def test_a_link_to_no_file_is_told(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("../blobs/lost")
    assert "is a link to '../blobs/lost', where no file is" in refusal(folder)


def test_a_transposed_tensor_is_told_by_the_file_s_own_shape_and_rows(tmp_path: Path) -> None:
    folder, name = save(random_gpt2(), tmp_path / "model"), "transformer.h.0.attn.c_attn.weight"
    state = load_file(folder / "model.safetensors")
    write(folder, state | {name: state[name].index_fill(0, torch.tensor(5), float("nan"))})
    with pytest.raises(CheckpointError, match="has NaN in column 0, row 5"):
        Checkpoint(folder).tensor(name)
    write(folder, state | {name: state[name].T.contiguous()})
    assert "has shape [96, 32], which is [32, 96] transposed" in refusal(folder)


@pytest.mark.skipif(FIVE, reason="transformers 5 heeds these settings whichever attention it takes")
def test_scales_that_transformers_default_attention_leaves_out_are_told(tmp_path: Path) -> None:
    folder = save(random_gpt2(scale_attn_weights=False), tmp_path / "model")
    with pytest.warns(UserWarning, match="config.json: scale_attn_weights is False, which the bundle heeds"):
        Checkpoint(folder)


# Names and nesting that a line of Python mends, which the message has


WRAPPED: dict[str, Callable[[str], str]] = {
    "torch.compile": lambda name: f"_orig_mod.{name}",
    "DataParallel": lambda name: f"module.{name}",
    "FSDP": lambda name: name.replace("h.0.", "h.0._fsdp_wrapped_module."),
    "checkpointing": lambda name: name.replace("mlp.", "_checkpoint_wrapped_module.mlp."),
    "peft": lambda name: f"base_model.model.{name}".replace("q_proj.", "q_proj.base_layer."),
    "Lightning": lambda name: f"model.{name}",
    "a module of one's own": lambda name: f"gpt_neo.{name}",
    "one's own around a bare model": lambda name: f"backbone.{bare(name)}",
    "several": lambda name: f"module._orig_mod.model.{name}",
}


def mended(folder: Path, base: Path) -> None:
    """Run the command of the message in the checkpoint's folder; what is read then is the base model."""
    message = refusal(folder)
    program, option, code = shlex.split(message[message.index("python -c ") : message.rindex('"') + 1])
    assert (program, option) == ("python", "-c")
    assert not set("$`!").intersection(code)  # which a shell reads between double quotes
    with contextlib.chdir(folder):
        exec(code, {})
    source, expected = Checkpoint(folder), Checkpoint(base)
    for name in expected.expected_shapes():
        assert torch.equal(source.tensor(name), expected.tensor(name))


@pytest.mark.parametrize("wrapper", WRAPPED)
def test_the_line_of_the_message_takes_wrappers_out_of_the_names(wrapper: str, base: Path, folder: Path) -> None:
    renamed(WRAPPED[wrapper])(folder, load_file(folder / "model.safetensors"))
    mended(folder, base)


@pytest.mark.parametrize(
    "nest",
    [
        lambda s: {"model_state_dict": s, "epoch": 3},
        lambda s: {"state_dict": {f"model.{n}": t for n, t in s.items()}, "optimizer": {"lr": 1}},
        lambda s: {"model": {f"module._orig_mod.{n}": t for n, t in s.items()}},
        lambda s: {"optimizer": {"step": torch.ones(2)}, "net": s},
    ],
    ids=["of a training loop", "of Lightning", "wrapped", "an optimizer first"],
)
def test_the_line_of_the_message_takes_a_nested_state_dict_out(
    nest: Callable[[State], object], base: Path, folder: Path
) -> None:
    pickled(folder, nest(load_file(folder / "model.safetensors")))
    mended(folder, base)


def test_the_line_of_the_message_makes_one_file_of_shards(base: Path, folder: Path) -> None:
    sharded(folder, {f"module.{n}": t for n, t in load_file(folder / "model.safetensors").items()})
    mended(folder, base)


@pytest.mark.skipif(FIVE, reason="transformers 5 reads names with and without the prefix together")
def test_the_line_of_the_message_mends_names_with_and_without_the_prefix(base: Path, folder: Path) -> None:
    renamed(lambda name: bare(name) if "h.1." in name else name)(folder, load_file(folder / "model.safetensors"))
    mended(folder, base)


@pytest.mark.skipif(FIVE, reason="transformers 5 reads names with and without the prefix together")
def test_the_line_of_the_message_mends_a_bare_model_beside_its_head(base: Path, folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    write(folder, {bare(name): tensor for name, tensor in state.items()} | {HEAD: state[EMBEDDING].clone()})
    mended(folder, base)


def test_a_prefix_that_would_be_a_command_does_not_stand_in_the_line(folder: Path) -> None:
    renamed(lambda name: f"x'\"$(touch y)`.{name}")(folder, load_file(folder / "model.safetensors"))
    assert "python -c" not in refusal(folder)


# What lies in the weights' place


POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{64 * 'a'}\nsize 526000000\n"

INSTEAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "TensorFlow": (lambda f: (f / "tf_model.h5").touch(), "'tf_model.h5' (TensorFlow's weights)"),
    "Flax": (lambda f: (f / "flax_model.msgpack").touch(), "from_flax=True"),
    "GGUF": (lambda f: (f / "gpt-neo.Q4_0.gguf").touch(), "a GGUF file"),
    "ONNX": (lambda f: (f / "model.onnx").touch(), "an ONNX graph"),
    "DeepSpeed": (lambda f: (f / "global_step100").mkdir(), "zero_to_fp32.py"),
    "FSDP": (lambda f: (f / "pytorch_model_fsdp_0").mkdir(), "accelerate merge-weights"),
    "a training's folders": (
        lambda f: list(map(Path.mkdir, (f / "checkpoint-50", f / "checkpoint-100"))),
        "such as 'checkpoint-100'",
    ),
    "an optimizer": (lambda f: (f / "optimizer.pt").touch(), "'optimizer.pt', the state of a training"),
    "another name": (lambda f: (f / "model.fp16.safetensors").touch(), "name it as transformers does"),
    "an adapter": (lambda f: (f / "adapter_config.json").write_text("{}"), "neort-export BASE_MODEL --adapter"),
    "nothing": (lambda f: None, "weights included"),
}


@pytest.mark.parametrize("kind", INSTEAD)
def test_what_lies_in_the_place_of_weights_is_named(kind: str, folder: Path) -> None:
    make, words = INSTEAD[kind]
    (folder / "model.safetensors").unlink()
    make(folder)
    assert words in refusal(folder)


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "pytorch_model.bin", "model.safetensors.index.json"]
)
def test_a_pointer_of_git_lfs_is_told_as_what_it_is(name: str, folder: Path) -> None:
    if name != "config.json":
        (folder / "model.safetensors").unlink()
    (folder / name).write_text(POINTER)
    assert f"{folder / name} is a pointer of git-lfs" in refusal(folder)


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ({EMBEDDING: 0}, f"holds {EMBEDDING!r}, which model.safetensors.index.json does not name"),
        ({EMBEDDING: 1}, f"says that 'model-00001-of-00002.safetensors' holds {EMBEDDING!r}, which it does not"),
    ],
    ids=["a tensor too many", "a tensor that is not there"],
)
def test_shards_hold_what_their_index_names(index: dict[str, int], words: str, folder: Path) -> None:
    """transformers 4 goes by the index, transformers 5 by the shards."""
    sharded(folder, load_file(folder / "model.safetensors"), index)
    assert words in refusal(folder)


def test_a_tensor_in_two_shards_is_refused(folder: Path) -> None:
    sharded(folder, load_file(folder / "model.safetensors"))
    file = folder / "model-00001-of-00002.safetensors"
    save_file(load_file(file) | {EMBEDDING: OTHER}, file)
    assert f"holds {EMBEDDING!r}, too, which" in refusal(folder)


@pytest.mark.parametrize("method", ["bitsandbytes", "gptq", "awq", "fp8"])
def test_quantized_checkpoints_are_refused_by_their_method(method: str, folder: Path) -> None:
    edit_json(folder / "config.json", quantization_config={"quant_method": method})
    assert f"quantized by {method!r}" in refusal(folder)


def test_asking_transformers_leaves_nothing_on_the_screen_and_its_settings_as_they_were(
    base: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    logging = transformers.utils.logging
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    Checkpoint(base)
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    assert capfd.readouterr() == ("", "")
