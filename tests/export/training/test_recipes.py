"""Muon, dropout, a teacher, sampling defaults, presets, and runs that go on where they were interrupted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from folders import ROOT
from neort.errors import ConfigError
from neort_export.training import command, loop, optimizers, train
from neort_export.training.card import Result
from neort_export.training.corpus import TrainingError, draw_batches
from neort_export.training.model import build_model, fold_scale, fuse_attention
from neort_export.training.options import Options
from neort_export.training.presets import NEEDS, PRESETS
from neort_export.training.resuming import saved_path

BUNDLE = ROOT / "tests" / "bundles" / "neo-mini"
TEXT = "the sea was grey and a gull cried over it while the old boat, sound as ever, went home again. " * 200


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> Options:
    folder = tmp_path_factory.mktemp("recipes")
    (folder / "text.txt").write_text(TEXT)
    return Options(
        texts=(folder / "text.txt",),
        output=folder / "checkpoint",
        vocab_size=280,
        hidden_size=16,
        num_layers=2,
        num_heads=2,
        context=24,
        window=8,
        batch_size=4,
        optimizer="muon",
        dropout=0.1,
        temperature=0.7,
        repetition_penalty=1.2,
        learning_rate=1e-2,
        steps=12,
        device="cpu",
        threads=1,
    )


@pytest.fixture(scope="module")
def result(options: Options) -> Result:
    return train.run(options)


def test_muon_lowers_the_loss_and_the_card_names_the_recipe(result: Result) -> None:
    assert result.losses[-1] < result.losses[0] - 0.5
    card = (result.checkpoint / "README.md").read_text()
    assert "Muon for the layers' matrices, peak rate 0.03, AdamW, peak rate 0.01, dropout 0.1" in card


def test_muon_takes_each_layers_matrices_and_adamw_the_rest(options: Options) -> None:
    model = build_model(options, 280)
    adamw, muon = optimizers.make_optimizers(model, options)
    counts = [[len(group["params"]) for group in optimizer.param_groups] for optimizer in (adamw, muon)]
    assert counts == [[2, 2 * 7 + 2], [2 * 6]]
    assert sum(map(sum, counts)) == len(list(model.parameters()))


def test_no_dropout_and_the_sampling_defaults_stand_in_the_checkpoint(result: Result) -> None:
    config = json.loads((result.checkpoint / "config.json").read_text())
    assert {config["resid_dropout"], config["embed_dropout"], config["attention_dropout"]} == {0}
    generation = json.loads((result.checkpoint / "generation_config.json").read_text())
    found = {name: generation.get(name) for name in ("do_sample", "temperature", "repetition_penalty", "eos_token_id")}
    assert found == {"do_sample": True, "temperature": 0.7, "repetition_penalty": 1.2, "eos_token_id": 0}


def test_a_folded_scale_is_the_scale_of_the_scores(options: Options) -> None:
    model = build_model(options, 280)
    ids = torch.randint(0, 280, (2, 24), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.mul_(20 if "q_proj" in name else 1)
        fuse_attention(model, 0.25)
        scaled = model(ids).logits
        fold_scale(model, 0.25)
        fuse_attention(model)
        torch.testing.assert_close(model(ids).logits, scaled, atol=1e-5, rtol=1e-4)
        fuse_attention(model, 0.25)
        assert not torch.allclose(model(ids).logits, scaled, atol=1e-3)


def interrupted_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def batches(*arguments: Any, **named: Any) -> Iterator[Any]:
        for step, rows in enumerate(draw_batches(*arguments, **named)):
            if step == steps:
                raise KeyboardInterrupt
            yield rows

    monkeypatch.setattr(loop, "draw_batches", batches)


def test_an_interrupted_run_goes_on_to_the_same_weights(
    options: Options, result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = replace(options, output=options.output.with_name("cut"), save_every=1e-9)
    with monkeypatch.context() as patch:
        interrupted_after(5, patch)
        with pytest.raises(KeyboardInterrupt):
            train.run(cut)
    assert saved_path(cut).is_file()
    with pytest.raises(TrainingError, match="a run with other options: repeat those"):
        train.run(replace(cut, seed=3))
    with monkeypatch.context() as patch:
        interrupted_after(8, patch)  # of the 12, 7 are left
        whole = train.run(cut)
    assert whole.losses == result.losses
    assert (whole.checkpoint / "model.safetensors").read_bytes() == (
        result.checkpoint / "model.safetensors"
    ).read_bytes()
    assert not saved_path(cut).exists()


def test_an_interruption_names_the_file_to_go_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(options: Options) -> None:
        saved_path(options).touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "run", interrupt)
    assert command.main(["a.txt", "-o", str(tmp_path / "out")]) == 130
    assert f"the same command goes on from {tmp_path / 'out.unfinished'}" in capsys.readouterr().err


def test_a_file_that_is_no_unfinished_run_is_named(options: Options) -> None:
    other = replace(options, output=options.output.with_name("other"))
    saved_path(other).write_bytes(b"not a run")
    with pytest.raises(TrainingError, match=r"other\.unfinished is no unfinished run .*: delete it"):
        train.run(other)
    assert saved_path(other).read_bytes() == b"not a run"


def test_a_draft_learns_its_teachers_predictions_with_its_tokenizer(options: Options, result: Result) -> None:
    teacher = transformers.GPTNeoForCausalLM.from_pretrained(result.checkpoint)
    torch.nn.init.zeros_(teacher.transformer.ln_f.weight)  # all tokens alike, whatever the text
    torch.nn.init.zeros_(teacher.transformer.ln_f.bias)
    folder = options.output.with_name("teacher")
    teacher.save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes((result.checkpoint / "tokenizer.json").read_bytes())
    draft = replace(options, output=options.output.with_name("draft"), teacher=folder, vocab_size=999, dropout=0.0)
    done = train.run(draft)
    assert (done.checkpoint / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    assert done.losses[-1] == pytest.approx(torch.log(torch.tensor(280.0)).item(), abs=0.05)
    assert result.losses[-1] < done.losses[-1] - 0.5
    assert "learning the predictions of `teacher`" in (done.checkpoint / "README.md").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context": 25}, "24 positions, this model 280 and 25: take its tokenizer and a --context it has"),
        ({"teacher": Path("missing")}, "--teacher missing is no folder with a checkpoint"),
    ],
)
def test_a_teacher_that_cannot_teach_is_named(
    options: Options, result: Result, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        train.run(
            replace(options, **{"output": options.output.with_name("no"), "teacher": result.checkpoint, **change})
        )


def test_a_run_begins_with_the_weights_it_is_given(options: Options, result: Result) -> None:
    slow = replace(options, output=options.output.with_name("more"), init_from=result.checkpoint, vocab_size=999)
    slow = replace(slow, learning_rate=1e-9, matrix_rate=1e-9, dropout=0.0, steps=2)
    done = train.run(slow)
    before, after = (
        transformers.GPTNeoForCausalLM.from_pretrained(run.checkpoint).state_dict() for run in (result, done)
    )
    for name, weight in before.items():
        torch.testing.assert_close(after[name], weight, atol=1e-6, rtol=1e-5)
    assert (done.checkpoint / "tokenizer.json").read_bytes() == (result.checkpoint / "tokenizer.json").read_bytes()
    assert "beginning with the weights of `checkpoint`" in (done.checkpoint / "README.md").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_layers": 4}, "--init-from .*checkpoint has num_layers 2, this model 4; give --num-layers 2"),
        ({"window": 9}, "--init-from .*checkpoint has window_size 8, this model 9; give --window 8"),
        ({"init_from": Path("missing")}, "--init-from missing is no folder with a checkpoint"),
        ({"init_from": BUNDLE}, "is a bundle; give the checkpoint that it was made of"),
    ],
)
def test_weights_that_do_not_fit_are_named(
    options: Options, result: Result, change: dict[str, Any], message: str
) -> None:
    output = options.output.with_name("no")
    with pytest.raises(TrainingError, match=message):
        train.run(replace(options, **{"output": output, "init_from": result.checkpoint, **change}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dropout": 1.0}, "--dropout 1.0: must be at least 0 and less than 1"),
        ({"weight_decay": -1.0}, "--weight-decay -1.0: must be at least 0"),
        ({"optimizer": "sgd"}, "--optimizer sgd: unknown; use adamw or muon"),
        ({"top_p": 0.0}, "--top-p 0.0: must be more than 0"),
    ],
)
def test_a_recipe_out_of_range_is_named(options: Options, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(options, **change)


def test_options_of_the_command_line_go_before_the_presets() -> None:
    options = command.parse_args(["a.txt", "-o", "out", "--preset", "neo-books-first", "--num-layers", "2"])
    assert (options.hidden_size, options.num_layers, options.optimizer) == (320, 2, "muon")
    assert command.parse_args(["a.txt", "-o", "out", "--preset", "neo-mini", "--steps", "5"]).minutes is None
    assert command.parse_args(["a.txt", "-o", "out", "--preset", "neo-books-first", "--minutes", "5"]).minutes == 5


def test_weights_and_teacher_of_other_tokens_are_named(options: Options, result: Result) -> None:
    other = options.output.with_name("other-tokens")
    shutil.copytree(result.checkpoint, other)
    file = other / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(result.checkpoint / "tokenizer.json"))
    tokenizer.add_tokens(["another"])
    tokenizer.save(str(file))
    changes: list[dict[str, Any]] = [{"teacher": other}, {"tokenizer": file}]
    for change in changes:
        with pytest.raises(TrainingError, match=r"--init-from .*checkpoint has other tokens than --t"):
            train.run(replace(options, output=options.output.with_name("no"), init_from=result.checkpoint, **change))


def test_weights_that_are_not_all_there_are_named(options: Options, result: Result) -> None:
    broken = options.output.with_name("broken")
    shutil.copytree(result.checkpoint, broken)
    weights = load_file(broken / "model.safetensors")
    del weights["transformer.h.1.mlp.c_fc.weight"]
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TrainingError, match=r"broken lacks 1 of its weights, as transformer\.h\.1\.mlp\.c_fc\.weight"):
        train.run(replace(options, output=options.output.with_name("no"), init_from=broken))


@pytest.mark.parametrize("name", NEEDS)
def test_a_recipe_that_goes_on_from_other_checkpoints_says_so(name: str) -> None:
    with pytest.raises(ConfigError, match=f"--preset {name} goes on from other checkpoints; give .*--teacher, too"):
        command.parse_args(["a.txt", "-o", "out", "--preset", name])


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_within_range(name: str) -> None:
    others = [word for option in NEEDS.get(name, ()) for word in (f"--{option.replace('_', '-')}", "other")]
    options = command.parse_args(["a.txt", "-o", "out", "--preset", name, *others])
    assert {key: getattr(options, key) for key in PRESETS[name]} == PRESETS[name]
