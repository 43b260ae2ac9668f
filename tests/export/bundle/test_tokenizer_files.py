"""A bundle's tokenizer: the ids of AutoTokenizer for the checkpoint's files, in neort and again in transformers."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Backend
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from checkpoints import edit_json, random_model
from neort.tokenizer import Tokenizer
from neort_export.bundle import write_tokenizer
from neort_export.bundle.tokenizer import check
from neort_export.bundle.tokenizer.reference import load_reference
from neort_export.checkpoint import Checkpoint
from neort_export.errors import CheckpointError

END = "<|endoftext|>"
CORPUS = ["once upon a time there was a little girl who said it's 1984, and we'll see! naïve café"] * 9
NAMES = ["<a>", "<mask>", "[PAD]", "<u>", "<v>", "<x>", END, " spaced ", "once"]
TEXTS = check.texts_for(NAMES)[::3]

Files = Callable[[Path], object]


def trained(*, every_byte: bool = True, special: tuple[str, ...] = (END,)) -> Backend:
    tokenizer = Backend(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet() if every_byte else []
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def flags(content: str, **changes: bool) -> dict[str, Any]:
    names = ("lstrip", "normalized", "rstrip", "single_word")
    return {"content": content, **dict.fromkeys(names, False), "special": True, **changes}


def with_config(**settings: Any) -> Files:
    """tokenizer.json and a tokenizer_config.json."""

    def write(folder: Path) -> None:
        trained().save(str(folder / "tokenizer.json"))
        write_json(folder / "tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer"} | settings)

    return write


def old_files(**settings: Any) -> Files:
    """vocab.json, merges.txt and a tokenizer_config.json."""

    def write(folder: Path) -> None:
        trained().model.save(str(folder))
        write_json(folder / "tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer"} | settings)

    return write


def backend(change: Callable[[Backend], object], tokenizer_class: str = "PreTrainedTokenizerFast") -> Files:
    """A tokenizer.json that is changed in the tokenizers library."""

    def write(folder: Path) -> None:
        tokenizer = trained()
        change(tokenizer)
        tokenizer.save(str(folder / "tokenizer.json"))
        write_json(folder / "tokenizer_config.json", {"tokenizer_class": tokenizer_class})

    return write


def write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content))


def other_files(folder: Path) -> None:
    with_config(pad_token="[PAD]")(folder)
    mask = {name: value for name, value in flags("<mask>", lstrip=True).items() if name != "special"}
    write_json(folder / "special_tokens_map.json", {"mask_token": mask})
    write_json(folder / "added_tokens.json", {"<x>": 320})


def after_a_call(folder: Path) -> None:
    fast = PreTrainedTokenizerFast(tokenizer_object=trained(), eos_token=END, pad_token=END)
    fast(["a b c", "d"], padding="max_length", truncation=True, max_length=16)
    fast.save_pretrained(folder)


def without_every_byte(folder: Path) -> None:
    tokenizer = trained(every_byte=False, special=("<unk>", END))
    tokenizer.model.unk_token = "<unk>"
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>"})


def template(tokenizer: Backend) -> None:
    around = processors.TemplateProcessing(single=f"{END} $A {END}", special_tokens=[(END, 0)])
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(), around])


def added_with_flags(tokenizer: Backend) -> None:
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True), AddedToken(" spaced ", rstrip=True)])
    tokenizer.add_tokens([AddedToken("once", single_word=True), AddedToken("<a>", normalized=True, rstrip=True)])


def several_releases(folder: Path) -> None:
    with_config(fast_tokenizer_files=["tokenizer.4.0.json", "tokenizer.99.0.json"])(folder)
    tokenizer = trained()
    tokenizer.add_special_tokens(["<u>"])
    tokenizer.save(str(folder / "tokenizer.4.0.json"))


KINDS: dict[str, Files] = {
    "a prefix space in the config": with_config(add_prefix_space=True),
    "a pad token in the config": with_config(pad_token="[PAD]"),
    "added tokens in the config": with_config(
        added_tokens_decoder={"0": flags(END), "350": flags("<u>"), "340": flags("<v>", rstrip=True)}
    ),
    "tokens in other files": other_files,
    "the older files with a token before a text": old_files(add_bos_token=True, bos_token=END, add_prefix_space=True),
    "padding and truncation of a call": after_a_call,
    "not every byte": without_every_byte,
    "tokens around a text": backend(template),
    "added tokens with flags": backend(added_with_flags, "GPT2Tokenizer"),
    "a file for this release of transformers": several_releases,
    "no config": lambda folder: trained().save(str(folder / "tokenizer.json")),
}


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    random_model(vocab_size=400).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path) -> Path:
    """A checkpoint without a tokenizer."""
    return Path(shutil.copytree(model_folder, tmp_path / "checkpoint"))


@pytest.fixture
def bundle(folder: Path, tmp_path: Path) -> Path:
    """The folder of a bundle, which has a config.json already."""
    target = tmp_path / "bundle"
    target.mkdir()
    shutil.copy(folder / "config.json", target)
    return target


def roles(tokenizer: Any) -> dict[str, str]:
    return {name: str(token) for name, token in tokenizer.special_tokens_map.items() if not isinstance(token, list)}


@pytest.mark.parametrize("kind", KINDS)
def test_neort_and_transformers_give_a_bundle_s_texts_the_ids_of_the_checkpoint(
    kind: str, folder: Path, bundle: Path
) -> None:
    KINDS[kind](folder)
    theirs = AutoTokenizer.from_pretrained(folder)
    expected = theirs(TEXTS)["input_ids"]
    written = write_tokenizer(Checkpoint(folder), bundle)
    assert sorted(file.name for file in bundle.iterdir()) == ["config.json", "tokenizer.json", "tokenizer_config.json"]
    for ours in (written, Tokenizer.from_file(bundle / "tokenizer.json")):
        assert [ours.encode(text) for text in TEXTS] == expected
    again = AutoTokenizer.from_pretrained(bundle)
    assert again(TEXTS)["input_ids"] == expected
    assert roles(again) == roles(theirs)
    assert list(again("a")) == ["input_ids", "attention_mask"]


def test_a_tokenizer_json_that_says_it_all_keeps_its_bytes(folder: Path, bundle: Path) -> None:
    with_config()(folder)
    document = json.loads((folder / "tokenizer.json").read_text())
    document["model"]["merges"] = [" ".join(merge) for merge in document["model"]["merges"]]  # the form of older files
    write_json(folder / "tokenizer.json", document)
    write_tokenizer(Checkpoint(folder), bundle)
    assert (bundle / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()


def test_settings_of_calls_are_left_out_of_the_bundle(folder: Path, bundle: Path) -> None:
    after_a_call(folder)
    write_tokenizer(Checkpoint(folder), bundle)
    document = json.loads((bundle / "tokenizer.json").read_text())
    assert document["padding"] is None
    assert document["truncation"] is None


def test_chat_templates_and_sides_are_kept(folder: Path, bundle: Path) -> None:
    """Whether tokenizer_config.json says them, or other files."""
    tokenizer = trained()
    tokenizer.enable_padding(direction="left")
    tokenizer.enable_truncation(9, direction="left")
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text("{{ messages }} é", encoding="utf-8")
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})
    write_tokenizer(Checkpoint(folder), bundle)
    again = AutoTokenizer.from_pretrained(bundle)
    assert (again.chat_template, again.padding_side, again.truncation_side) == ("{{ messages }} é", "left", "left")


def test_the_tokenizer_of_another_folder_is_taken(folder: Path, bundle: Path, tmp_path: Path) -> None:
    """Of one with nothing but a tokenizer.json, too: transformers then reads the checkpoint's config.json."""
    other = tmp_path / "other"
    other.mkdir()
    trained().save(str(other / "tokenizer.json"))
    tokenizer = write_tokenizer(Checkpoint(folder, tokenizer=other), bundle)
    assert tokenizer.encode("once") == trained().encode("once").ids


def test_added_tokens_without_a_row_are_told_and_others_are_refused(folder: Path, bundle: Path) -> None:
    with_config(added_tokens_decoder={"0": flags(END), "320": flags("<u>"), "321": flags("<v>")})(folder)
    entries = len(AutoTokenizer.from_pretrained(folder)) - 2
    checkpoint = Checkpoint(folder)
    checkpoint.dimensions = checkpoint.dimensions.__class__(**{**vars(checkpoint.dimensions), "vocab_size": entries})
    with pytest.warns(UserWarning, match=rf"has {entries} tokens and none for the added '<u>' \({entries}\), '<v>'"):
        write_tokenizer(checkpoint, bundle)
    fewer = checkpoint.dimensions.__class__(**{**vars(checkpoint.dimensions), "vocab_size": entries - 1})
    checkpoint.dimensions = fewer
    with pytest.raises(CheckpointError, match=rf"up to id {entries - 1}, the model only {entries - 1}.*--tokenizer"):
        write_tokenizer(checkpoint, bundle)


def test_text_that_transformers_writes_otherwise_is_told(folder: Path, bundle: Path) -> None:
    """transformers 5 ignores the setting for BPE."""
    with_config(clean_up_tokenization_spaces=True)(folder)
    text = "It is done , he said ."
    theirs = AutoTokenizer.from_pretrained(folder)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        write_tokenizer(Checkpoint(folder), bundle)
    differs = theirs.decode(theirs(text)["input_ids"]) != text
    assert ["clean_up_tokenization_spaces" in str(warning.message) for warning in told] == [True] * differs


def damaged(name: str, content: str) -> Files:
    def write(folder: Path) -> None:
        with_config()(folder)
        (folder / name).write_text(content)

    return write


def a_gap(folder: Path) -> None:
    with_config()(folder)
    document = json.loads((folder / "tokenizer.json").read_text())
    document["model"]["vocab"]["once"] = 1_000_000_000_000
    write_json(folder / "tokenizer.json", document)


REFUSED: dict[str, tuple[Files, str]] = {
    "none": (lambda folder: None, r"has no tokenizer \(tokenizer.json, or vocab.json with merges.txt\); .*--tokenizer"),
    "another's files": (lambda folder: (folder / "vocab.txt").write_text("a"), r"with merges.txt, only vocab.txt\)"),
    "no JSON": (damaged("special_tokens_map.json", "{"), r"special_tokens_map.json cannot be read as JSON"),
    "other JSON": (damaged("tokenizer.json", '{"model": {"vocab": 5}}'), r"do not make a tokenizer that transformers"),
    "an unknown setting": (
        with_config(added_tokens_decoder={"0": flags(END, strip=True)}),
        r"tokenizer_config.json has token '<\|endoftext\|>' with an unknown setting 'strip'",
    ),
    "ids with gaps": (a_gap, r"tokenizer.json does not number its \d+ tokens from 0 on without gaps: there is no id"),
    "a normalizer": (backend(lambda t: setattr(t, "normalizer", normalizers.NFC())), "normalizer.*version of Unicode"),
    "dropout": (backend(lambda t: setattr(t.model, "dropout", 0.5)), "dropout 0.5, with which a text has other ids"),
    "split special tokens": (with_config(split_special_tokens=True), "sets split_special_tokens.*set it to false"),
    "a length that is no number": (with_config(model_max_length="2k"), "model_max_length to '2k', which is no number"),
    "a missing file for this release": (
        with_config(fast_tokenizer_files=["tokenizer.4.0.json"]),
        "names 'tokenizer.4.0.json' in fast_tokenizer_files, which is not beside it: restore it",
    ),
    "code of its own": (old_files(tokenizer_class="CTRLTokenizer"), "as a CTRLTokenizer, which has its own code"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_reproduced_is_refused_by_its_file(kind: str, folder: Path, bundle: Path) -> None:
    files, message = REFUSED[kind]
    files(folder)
    with pytest.raises(CheckpointError, match=message) as caught:
        write_tokenizer(Checkpoint(folder), bundle)
    assert str(folder) in str(caught.value)
    assert str(bundle) not in str(caught.value)


def test_ids_that_differ_are_refused_with_the_text(folder: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_config()(folder)
    encode = Tokenizer.encode
    monkeypatch.setattr(Tokenizer, "encode", lambda self, text: encode(self, text.replace("1984", "1985")))
    edit_json(folder / "tokenizer_config.json", model_max_length=20)
    with pytest.raises(CheckpointError, match=r"cannot reproduce this tokenizer: .*1984.* in transformers and"):
        write_tokenizer(Checkpoint(folder), bundle)


def test_what_transformers_and_tokenizers_raise_at_any_call_is_told(
    folder: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Panics of tokenizers, too, which are no Exception."""
    with_config()(folder)
    panic = type("PanicException", (BaseException,), {})

    def fails(*_: object, **__: object) -> object:
        raise panic("out of bounds")

    reference = load_reference(folder, folder / "tokenizer.json")
    with monkeypatch.context() as patched:
        patched.setattr(Backend, "from_file", fails)
        assert not reference.says_the_same(folder / "tokenizer.json")
    monkeypatch.setattr(AutoTokenizer.from_pretrained(folder).__class__, "__call__", fails)
    with pytest.raises(CheckpointError, match=r"do not make a tokenizer .*\(PanicException: out of bounds\); restore"):
        write_tokenizer(Checkpoint(folder), bundle)
