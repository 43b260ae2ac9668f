"""README.md of a bundle: a header that the hub takes, figures that were measured, nothing that strangers slip in."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml
from huggingface_hub import ModelCard

import neort
from neort_export import Report
from neort_export.bundle import renew_card, write_card
from neort_export.bundle.card.original import OriginalCard, read_original_card
from neort_export.checkpoint import Checkpoint
from neort_models import bundled

COMMIT = "c0ffee" + 34 * "0"
Write = Callable[..., tuple[dict[str, Any], str]]


def parsed(card: str) -> tuple[dict[str, Any], str]:
    """The header as the hub's own library reads it, and the text."""
    found = ModelCard(card)
    return found.data.to_dict(), found.text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle's folder as far as a card is made of it: the bundled model's."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    for name in ("manifest.json", "verification.json"):
        shutil.copyfile(bundled() / name, folder / name)
    return folder


def source_of(tmp_path: Path, **facts: Any) -> Checkpoint:
    """A checkpoint as far as a card is made of it."""
    defaults = {
        "path": tmp_path,
        "source": "tiny",
        "revision": None,
        "adapter": None,
        "config": SimpleNamespace(),
        "architecture": SimpleNamespace(model_type="gpt_neo"),
    }
    return cast(Checkpoint, SimpleNamespace(**defaults | facts))


@pytest.fixture
def write(folder: Path, tmp_path: Path) -> Write:
    """Write a card for a source, with changes in the manifest; returns its header and its text."""

    def write(readme: str | None = None, quantization: str | None = None, **facts: Any) -> tuple[dict[str, Any], str]:
        manifest = json.loads((folder / "manifest.json").read_text())
        if facts.get("source"):
            manifest["source"]["name"] = facts["source"]
        if quantization:
            manifest["recipe"]["quantization"] = quantization
        (folder / "manifest.json").write_text(json.dumps(manifest))
        if readme is not None:
            (tmp_path / "README.md").write_text(readme, encoding="utf-8")
        write_card(folder, source_of(tmp_path, **facts))
        return parsed((folder / "README.md").read_text(encoding="utf-8"))

    return write


def original(tmp_path: Path, card: str | bytes) -> OriginalCard:
    (tmp_path / "README.md").write_bytes(card if isinstance(card, bytes) else card.encode())
    return read_original_card(tmp_path)


# What an export writes


def test_an_export_has_a_card_with_its_figures(int8_report: Report, fp32_bundle: Path) -> None:
    for bundle, name in ((int8_report.path, "int8"), (fp32_bundle, "fp32")):
        header, text = parsed((bundle / "README.md").read_text(encoding="utf-8"))
        assert header["library_name"] == "neort"
        assert header["pipeline_tag"] == "text-generation"
        assert {"gpt_neo", "onnx", name} <= set(header["tags"])
        assert header.keys().isdisjoint({"license", "base_model", "base_model_relation"})  # unknown: a folder's
        assert "Not known: no licence" in text
        figures = json.loads((bundle / "verification.json").read_text())["against_torch"][name]
        row = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
        assert f"| {figures['mean_kl']:.1e} | {figures['p99_kl']:.1e} | {figures['top1_agreement']:.2%} |" in row
        assert f"{figures['perplexity_ratio']:.5f} +- {figures['perplexity_ratio_error']:.5f}" in row
        for part in ("KL(torch || bundle)", "2,048 tokens", "MB in all", "## Limits and biases", "neort.load("):
            assert part in text


def test_the_manifest_does_not_list_the_card_which_its_owner_may_change_or_remove(
    fp32_bundle: Path, tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(fp32_bundle, tmp_path / "bundle"))
    assert "README.md" not in json.loads((bundle / "manifest.json").read_text())["files"]
    (bundle / "README.md").write_text("mine")
    neort.load(bundle, check_weights=True)
    (bundle / "README.md").unlink()
    neort.load(bundle, check_weights=True)


def test_a_bundle_that_was_not_measured_says_so(folder: Path, write: Write) -> None:
    (folder / "verification.json").unlink()
    assert "Not measured: exported with `--no-verify`." in write()[1]


def test_equal_bundles_have_equal_cards(folder: Path, write: Write) -> None:
    write()
    first = (folder / "README.md").read_bytes()
    write()
    assert (folder / "README.md").read_bytes() == first


def test_the_bundled_model_has_a_card_with_its_own_figures(folder: Path, write: Write) -> None:
    write()
    made, own = ((place / "README.md").read_text(encoding="utf-8") for place in (folder, bundled()))
    marked = re.compile("<!-- neort: figures -->.*<!-- neort: end of figures -->", re.DOTALL)
    assert marked.search(made)[0] == marked.search(own)[0]  # type: ignore[index]
    header, text = parsed(own)
    assert header["license"] == "apache-2.0"
    assert header["library_name"] == "neort"
    assert "novels" in text


# Where it comes from


def test_a_name_on_the_hub_is_the_base_model(write: Write) -> None:
    header, text = write(source="owner/tiny", revision=COMMIT)
    assert (header["base_model"], header["base_model_relation"]) == ("owner/tiny", "quantized")
    assert f"[`owner/tiny`](https://huggingface.co/owner/tiny) at commit `{COMMIT}`" in text
    assert "https://huggingface.co/owner/tiny" in text.partition("## Limits")[2]


def test_fp32_is_no_quantization(write: Write) -> None:
    header, text = write(source="owner/tiny", revision=COMMIT, quantization="fp32")
    assert header["base_model"] == "owner/tiny"
    assert "base_model_relation" not in header
    assert "fp32: all weights in float32" in text


def test_a_merged_adapter_makes_it_a_fine_tune_of_both(write: Write) -> None:
    header, text = write(source="owner/tiny", revision=COMMIT, adapter=SimpleNamespace(name="owner/lora"))
    assert (header["base_model"], header["base_model_relation"]) == (["owner/tiny", "owner/lora"], "finetune")
    assert "with the LoRA adapter `owner/lora` merged in" in text
    assert write(source="owner/tiny", revision=COMMIT, adapter=SimpleNamespace(name="folder"))[0]["base_model"] == [
        "owner/tiny"
    ]


@pytest.mark.parametrize(
    ("named", "base"), [("owner/base", "owner/base"), ("/home/me/model", None), ("./out/model", None), ("gpt2", None)]
)
def test_a_folder_has_the_base_model_that_its_configuration_names_where_that_is_a_hub_name(
    write: Write, named: str, base: str | None
) -> None:
    header, _ = write(config=SimpleNamespace(_name_or_path=named))
    assert header.get("base_model") == base
    assert "base_model_relation" not in header


def test_licence_languages_and_data_are_those_of_the_checkpoints_own_card(write: Write) -> None:
    card = (
        "---\nlicense: mit\nlanguage: [en, no, pt-BR]\ndatasets:\n- the Pile\n- EleutherAI/pile\nbase_model: a/b\n---\n"
    )
    header, text = write(card)
    assert header["license"] == "mit"
    assert header["language"] == ["en", "no", "pt-BR"]
    assert header["datasets"] == ["EleutherAI/pile"]
    assert header["base_model"] == "a/b"
    assert "That of the original, by its own card: mit." in text


def test_a_licence_of_its_own_keeps_its_name_and_link(write: Write) -> None:
    card = "---\nlicense: other\nlicense_name: my-licence\nlicense_link: https://example.org/licence\n---\n"
    header, _ = write(card)
    assert (header["license"], header["license_name"]) == ("other", "my-licence")
    assert header["license_link"] == "https://example.org/licence"


def test_a_licence_that_the_hub_does_not_know_is_another(write: Write) -> None:
    header, text = write("---\nlicense: my-own-1.0\n---\n")
    assert (header["license"], header["license_name"]) == ("other", "my-own-1.0")
    assert "by its own card: other (my-own-1.0)." in text


# Limits and biases


def test_eleutherais_card_is_told_in_words_with_a_link(write: Write) -> None:
    _, text = write("## Limitations\nlong words\n", source="EleutherAI/gpt-neo-125m", revision=COMMIT)
    limits = text.partition("## Limits and biases")[2]
    for part in ("the Pile", "profanity", "https://huggingface.co/EleutherAI/gpt-neo-125m", "curate or filter"):
        assert part in limits
    assert "long words" not in limits


def test_what_another_card_says_of_limits_is_quoted(write: Write) -> None:
    card = "# Model\n\ntext\n\n### Limitations and Biases\nIt *errs*.\n\n#### More\n- much\n\n### Training\nnot this\n"
    limits = write(card)[1].partition("## Limits and biases")[2]
    assert "The original's card says:\n\n> It *errs*.\n>\n> **More**\n> - much\n" in limits
    assert "not this" not in limits


def test_a_heading_in_a_block_of_code_is_none(tmp_path: Path) -> None:
    card = "## Bias\n```\n# a comment\n## Limitations\n```\nend\n## Next\n"
    assert original(tmp_path, card).limits == "```\n# a comment\n## Limitations\n```\nend"


# Strangers


def test_a_quotation_holds_no_html_no_images_and_no_control_characters_and_ends(write: Write, folder: Path) -> None:
    evil = "<script>x</script> ![i](http://track) <!-- neort: figures --> \x1b[31m\x00 \u202e text\n---\n# Title\n"
    _, text = write("## Limitations\n" + evil + "word " * 10_000)
    quote = [line for line in text.splitlines() if line.startswith(">")]
    told = "\n".join(quote)
    assert "&lt;script>" in told
    assert "<" not in told
    assert "![" not in told
    assert all(line.isprintable() for line in quote)
    assert len(told) < 6000
    assert text.count("<!-- neort: figures -->") == 1


@pytest.mark.parametrize("name", ["a`b](http://x)", "x\n# y", "\x1b]0;t\x07", "é" * 5000, "---", "`" * 9, "  "])
def test_a_name_stays_one_piece_of_code(write: Write, folder: Path, name: str) -> None:
    header, text = write(source=name)
    assert header["library_name"] == "neort"
    title = text.splitlines()[1] if not text.splitlines()[0] else text.splitlines()[0]
    assert re.fullmatch(r"# `[^`]{1,200}`, int8, for CPUs", title)
    assert title.isprintable()


@pytest.mark.parametrize(
    "header",
    [
        "license: [mit",
        "a: &a [x]\nb: &b [*a, *a]\nlicense: *b",
        "license: 'mit\n\n  evil: yes'",
        "license: {a: b}\nlanguage: {c: d}\ndatasets: 3\nbase_model: [[x]]",
        "license: !!python/object/apply:os.system ['touch /tmp/x']",
        "datasets: 2020-99-99",
        "license: " + "x" * 100,
        "license: 'm\\x1bit'",
        "- a list",
        "x: " + "[" * 5000,
        "x: " + "y" * 70_000,
    ],
)
def test_a_header_that_cannot_be_read_or_holds_no_sound_value_is_left_out(tmp_path: Path, header: str) -> None:
    assert original(tmp_path, f"---\n{header}\n---\n# Title\n") == OriginalCard(exists=True)


def test_cards_that_are_no_text_or_no_file_do_not_stop_an_export(tmp_path: Path) -> None:
    assert original(tmp_path, b"\xff\xfe## Bias\n\xff").exists
    (tmp_path / "README.md").unlink()
    (tmp_path / "README.md").mkdir()
    assert read_original_card(tmp_path) == OriginalCard()
    assert read_original_card(tmp_path / "nowhere") == OriginalCard()


def test_hostile_values_do_not_become_fields(write: Write, folder: Path) -> None:
    card = '---\nlicense: mit\nlanguage: ["en\\ninference: true", de]\ndatasets: ["a/b\\nx: y", "<b>"]\n---\n'
    write(card)
    header = (folder / "README.md").read_text(encoding="utf-8").split("---\n")[1]
    fields = yaml.safe_load(header)
    assert fields["language"] == ["de"]
    assert fields.keys() == {"library_name", "pipeline_tag", "license", "language", "tags"}


# Measured again


def test_a_later_measurement_writes_the_figures_and_leaves_what_the_owner_wrote(
    folder: Path, write: Write, tmp_path: Path
) -> None:
    write()
    card = (folder / "README.md").read_text(encoding="utf-8").replace("# `neo-mini`", "# Mine é")
    (folder / "README.md").write_text(card.replace("98.05%", "12.34%"), encoding="utf-8")
    renewed = tmp_path / "renewed"
    shutil.copytree(folder, renewed)
    (renewed / "README.md").unlink()
    renew_card(folder, renewed, source_of(tmp_path))
    assert "98.05%" in card
    assert (renewed / "README.md").read_text(encoding="utf-8") == card


@pytest.mark.parametrize("own", [b"all mine\r\n", b"<!-- neort: figures --> without an end"])
def test_a_card_without_the_figures_place_stays_as_it_is(folder: Path, tmp_path: Path, own: bytes) -> None:
    (folder / "README.md").write_bytes(own)
    (tmp_path / "new").mkdir()
    renew_card(folder, tmp_path / "new", source_of(tmp_path))
    assert (tmp_path / "new" / "README.md").read_bytes() == own


@pytest.mark.parametrize("own", [None, b"\xff\xfe"])
def test_a_card_that_is_missing_or_no_text_is_written(folder: Path, tmp_path: Path, own: bytes | None) -> None:
    old = tmp_path / "old"
    old.mkdir()
    if own is not None:
        (old / "README.md").write_bytes(own)
    renew_card(old, folder, source_of(tmp_path))
    assert parsed((folder / "README.md").read_text(encoding="utf-8"))[0]["library_name"] == "neort"
