"""Training: the text pipeline against tokenizing a text whole, the checkpoint against transformers."""

from __future__ import annotations

import json
import lzma
import random
import sys
from dataclasses import replace
from functools import partial
from itertools import count, islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from neort.errors import ConfigError, MissingExtraError
from neort_export.training import command, corpus, loop, optimizers, train
from neort_export.training.card import Result
from neort_export.training.corpus import END_ID, END_OF_TEXT, Corpus, TrainingError
from neort_export.training.evaluation import evaluate
from neort_export.training.model import fuse_attention
from neort_export.training.options import Options

VOCABULARY = "the sea was grey and a gull cried over it while Anna's boat, old but sound, went home"


def sentences(count: int, seed: int) -> str:
    draw, words = random.Random(seed), VOCABULARY.split()
    lines = (" ".join(draw.choices(words, k=draw.randint(4, 9))) + ".\n" for _ in range(count))
    return "".join(lines) + "Prix : 3 €" + END_OF_TEXT + "Ein zweites Stück."


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> Options:
    folder = tmp_path_factory.mktemp("train")
    (folder / "text.txt").write_text(sentences(600, seed=1), encoding="utf-8")
    (folder / "valid.txt").write_text(sentences(30, seed=2), encoding="utf-8")
    return Options(
        texts=(folder / "text.txt",),
        output=folder / "checkpoint",
        valid=folder / "valid.txt",
        vocab_size=320,
        hidden_size=32,
        num_layers=3,
        num_heads=2,
        context=48,
        window=8,
        batch_size=4,
        learning_rate=1e-2,
        steps=30,
        device="cpu",
        threads=1,
    )


@pytest.fixture(scope="module")
def result(options: Options) -> Result:
    return train.run(options)


@pytest.fixture(scope="module")
def model(result: Result) -> Any:
    return transformers.GPTNeoForCausalLM.from_pretrained(result.checkpoint).eval()


def test_training_lowers_the_loss(result: Result) -> None:
    assert len(result.losses) == 30
    assert result.losses[0] == pytest.approx(np.log(320), abs=0.3)  # random weights: all tokens alike
    assert result.losses[-1] < result.losses[0] - 1.5
    assert result.valid is not None
    assert result.valid.nats_per_token < result.losses[0] - 1.5


def test_sizes_stand_in_the_config(result: Result, model: Any) -> None:
    config = json.loads((result.checkpoint / "config.json").read_text())
    wanted = {
        "model_type": "gpt_neo",
        "max_position_embeddings": 48,
        "window_size": 8,
        "hidden_size": 32,
        "num_heads": 2,
        "attention_layers": ["global", "local", "global"],
        "vocab_size": 320,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    assert {name: config[name] for name in wanted} == wanted
    assert sum(weight.numel() for weight in model.parameters()) == result.parameters


def test_the_checkpoint_has_the_files_of_a_hugging_face_one(result: Result) -> None:
    assert {path.name for path in result.checkpoint.iterdir()} == {
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert "30 steps of 4 x 48 tokens" in (result.checkpoint / "README.md").read_text()


def test_the_tokenizer_gives_any_text_back(result: Result) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(result.checkpoint)
    text = "  Anna's gull\n\ncried:\t“日本 👩‍🚀”\x00 "
    assert tokenizer.decode(tokenizer(text).input_ids, clean_up_tokenization_spaces=False) == text
    assert tokenizer(f"a{END_OF_TEXT}").input_ids[-1] == END_ID
    assert tokenizer.eos_token_id == END_ID
    assert tokenizer.model_max_length == 48


def test_token_ids_follow_the_order_of_merges(result: Result) -> None:
    """The rank of a merge is then its token id, which the runtime's tokenizer relies on."""
    bpe = json.loads((result.checkpoint / "tokenizer.json").read_text())["model"]
    made = [bpe["vocab"]["".join(pair)] for pair in bpe["merges"]]
    assert made == list(range(257, 320))


def test_the_same_seed_gives_the_same_checkpoint(options: Options, result: Result) -> None:
    again = train.run(replace(options, output=options.output.with_name("again")))
    assert again.losses == result.losses
    for name in ("model.safetensors", "tokenizer.json"):
        assert (again.checkpoint / name).read_bytes() == (result.checkpoint / name).read_bytes()


def test_another_seed_gives_other_weights(options: Options, result: Result) -> None:
    other = train.run(replace(options, output=options.output.with_name("other"), seed=1, steps=1))
    assert other.losses[0] != result.losses[0]


def test_minutes_end_a_run(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that is a second further whenever it is looked at."""
    clock = SimpleNamespace(monotonic=partial(next, count(step=1.0)))
    monkeypatch.setattr(loop, "time", clock)
    brief = train.run(replace(options, output=options.output.with_name("brief"), minutes=0.2, valid=None))
    assert 1 < len(brief.losses) < 12
    assert brief.valid is None


def test_fused_attention_computes_what_transformers_does(model: Any) -> None:
    ids = torch.randint(0, 320, (2, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(ids).logits
        fused = transformers.GPTNeoForCausalLM(model.config).eval()
        fused.load_state_dict(model.state_dict())
        fuse_attention(fused)
        fused.transformer.h[0].attn.attention.bias = None  # the mask that a global layer no longer reads
        torch.testing.assert_close(fused(ids).logits, expected, atol=1e-5, rtol=1e-4)


def test_evaluation_is_transformers_loss_of_the_text(model: Any) -> None:
    ids = np.random.default_rng(0).integers(1, 320, 40)
    quality = evaluate(model, Corpus(ids, text_bytes=80))
    labelled = torch.from_numpy(np.r_[END_ID, ids])[None]
    with torch.no_grad():
        expected = model(labelled, labels=labelled).loss.item()
    assert quality.nats_per_token == pytest.approx(expected, rel=1e-5)
    assert quality.bits_per_byte == pytest.approx(expected * 40 / (np.log(2) * 80), rel=1e-5)


def test_separators_and_padding_are_not_scored(model: Any) -> None:
    ids = np.random.default_rng(0).integers(1, 320, 100)
    whole = evaluate(model, Corpus(ids, text_bytes=100))
    closed = evaluate(model, Corpus(np.r_[ids, [END_ID] * 60], text_bytes=100))
    assert closed.nats_per_token == pytest.approx(whole.nats_per_token, rel=1e-6)


def test_a_text_in_pieces_tokenizes_as_the_whole(
    options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "READ_CHARACTERS", 16)
    tokenizer = corpus.train_tokenizer(options.texts, 320)
    draw = random.Random(0)
    parts = [" ", "\n", "\t", "\u00a0", "\r\n", "a", "the", "'s", "'", "12", "é", "<", END_OF_TEXT, "日", "."]
    for _ in range(200):
        text = "".join(draw.choices(parts, weights=[5, 5] + [1] * 13, k=80))
        path = tmp_path / "text.txt"
        path.write_bytes(text.encode())
        pieces = list(corpus.read_pieces(path))
        assert "".join(pieces) == text
        encoded = corpus.encode([path], tokenizer, tmp_path / "ids")
        assert encoded.tokens.tolist() == [*tokenizer.encode(text, add_special_tokens=False).ids, END_ID]
        assert encoded.text_bytes == len(text.replace(END_OF_TEXT, "").encode())


def test_long_texts_are_read_in_pieces_compressed_or_not(tmp_path: Path) -> None:
    text = sentences(5000, seed=3)
    (tmp_path / "a.txt").write_bytes(text.encode())
    (tmp_path / "a.txt.xz").write_bytes(lzma.compress(text.encode()))
    pieces = list(corpus.read_pieces(tmp_path / "a.txt"))
    assert len(pieces) > 1
    assert "".join(pieces) == text
    assert list(corpus.read_pieces(tmp_path / "a.txt.xz")) == pieces


@pytest.mark.parametrize("length", [9, 16, 17, 100])
def test_an_epoch_reads_the_text_once(length: int) -> None:
    batches = corpus.draw_batches(np.arange(length), context=8, batch_size=1, seed=0)
    rows = np.concatenate(list(islice(batches, max(1, (length - 8) // 8))))
    assert (np.diff(rows) == 1).all()
    assert len(np.unique(rows[:, 0])) == len(rows)
    assert rows.max() < length


def test_the_learning_rate_rises_and_falls() -> None:
    shares = (0, optimizers.WARM_UP / 2, optimizers.WARM_UP, 0.25, 1)
    along_a_cosine = [optimizers.learning_rate_factor(share) for share in shares]
    along_a_line = [optimizers.learning_rate_factor(share, "muon") for share in shares]
    assert along_a_cosine == pytest.approx([0, 0.5, 1, 0.854, 0], abs=2e-3)
    assert along_a_line == pytest.approx([0, 0.5, 0.98, 0.75, 0])


def test_only_matrices_decay(model: Any, options: Options) -> None:
    (optimizer,) = optimizers.make_optimizers(model, options)
    matrices, vectors = optimizer.param_groups
    assert matrices["weight_decay"] > 0
    assert vectors["weight_decay"] == 0
    assert {weight.ndim for weight in matrices["params"]} == {2}
    assert {weight.ndim for weight in vectors["params"]} == {1}


def refuse(*arguments: str | Path) -> int:
    return command.main([str(argument) for argument in arguments])


def assert_one_sentence(capsys: pytest.CaptureFixture[str], *parts: str) -> None:
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    for part in ("error: ", *parts):
        assert part in printed


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.txt", None, "cannot read"),
        ("latin1.txt", "é".encode("latin-1"), "as UTF-8 text"),
        ("cut.txt.xz", lzma.compress(b"abc" * 1000)[:-20], "cannot read"),
        ("not.xz", b"plain text", "cannot read"),
        ("short.txt", b"too short", "give more text or a smaller --context"),
        ("empty.txt", b"", "the texts hold 1 tokens; --context 512 needs 513"),
    ],
)
def test_a_text_that_cannot_be_trained_on_is_named_in_one_sentence(
    name: str, content: bytes | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert refuse(tmp_path / name, "-o", tmp_path / "out") == 1
    assert_one_sentence(capsys, message)
    assert [path.name for path in tmp_path.iterdir()] == ([name] if content is not None else [])


def test_an_empty_validation_text_is_refused_before_training(options: Options, tmp_path: Path) -> None:
    (tmp_path / "valid.txt").write_text(END_OF_TEXT)
    with pytest.raises(TrainingError, match="holds no text"):
        train.run(replace(options, output=tmp_path / "out", valid=tmp_path / "valid.txt"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 50, "num_heads": 4}, "--hidden-size 50: must be a multiple of --num-heads 4"),
        ({"vocab_size": 256}, "--vocab-size 256: at least 257"),
        ({"steps": 0}, "--steps 0: must be more than 0"),
        ({"learning_rate": float("nan")}, "--learning-rate nan"),
    ],
)
def test_an_option_out_of_range_is_named(options: Options, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(options, **change)


def test_an_unknown_device_is_named(options: Options, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--device tpo: unknown; use auto, cpu or cuda"):
        train.run(replace(options, output=tmp_path / "out", device="tpo"))


def test_a_diverged_run_is_not_saved(options: Options, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="lower --learning-rate"):
        train.run(replace(options, output=tmp_path / "out", learning_rate=1e30))
    assert list(tmp_path.iterdir()) == []


def test_an_existing_target_is_refused_and_replaced_by_force(
    options: Options, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out"
    target.mkdir()
    assert refuse(options.texts[0], "-o", target) == 1
    assert_one_sentence(capsys, "exists", "--force")
    (target / "diary.txt").write_text("not a checkpoint")
    assert refuse(options.texts[0], "-o", target, "--force") == 1
    assert_one_sentence(capsys, "config.json", "--force does not replace it")

    (target / "config.json").write_text("old")
    train.run(replace(options, output=target, steps=1, force=True))
    assert (target / "config.json").read_text() != "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_interrupted_run_leaves_nothing(
    options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "save", interrupt)
    arguments = ["--context", "32", "--steps", "1", "--hidden-size", "6", "--device", "cpu"]
    assert refuse(options.texts[0], "-o", tmp_path / "out", *arguments) == 130
    assert "nothing was written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_without_torch_one_sentence_names_the_extra(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r'pip install "neort\[export\]"'):
        train.run(options)


def test_the_command_line_fills_the_options() -> None:
    options = command.parse_args(["a.txt", "b.txt.xz", "-o", "out", "--minutes", "2.5", "--window", "64"])
    assert options == Options(texts=(Path("a.txt"), Path("b.txt.xz")), output=Path("out"), minutes=2.5, window=64)


def test_the_command_line_has_no_abbreviations(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        command.parse_args(["a.txt", "-o", "out", "--min", "2.5"])
    assert "unrecognized arguments: --min" in capsys.readouterr().err


def test_a_smaller_model_takes_another_one_s_tokenizer(result: Result, options: Options, tmp_path: Path) -> None:
    file = result.checkpoint / "tokenizer.json"
    draft = train.run(
        replace(options, output=tmp_path / "draft", tokenizer=file, vocab_size=300, num_layers=1, steps=2)
    )
    assert (draft.checkpoint / "tokenizer.json").read_bytes() == file.read_bytes()
    assert json.loads((draft.checkpoint / "config.json").read_text())["vocab_size"] == 320
    assert draft.parameters < result.parameters


@pytest.mark.parametrize("contents", ["{}", None])
def test_a_tokenizer_that_is_none_is_refused(options: Options, tmp_path: Path, contents: str | None) -> None:
    if contents is not None:
        (tmp_path / "tokenizer.json").write_text(contents)
    with pytest.raises(TrainingError, match=r"--tokenizer .*tokenizer\.json"):
        train.run(replace(options, output=tmp_path / "draft", tokenizer=tmp_path / "tokenizer.json"))
