"""README.md of a bundle: its model card, made of the manifest, of what was measured, and of the checkpoint's own card.

It holds no date, so that equal exports are equal. Its owner may write what he likes in it: the manifest lists it among
no files, and a later measurement writes the figures anew and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from neort.bundle import MANIFEST
from neort.paths import read_regular
from neort_models import PRESETS

from ...checkpoint import Checkpoint, read_object
from ...markdown import code, front_matter, quoted
from ..manifest import CARD
from .figures import figures_of, with_figures
from .original import HUB_ID, OriginalCard, read_original_card

__all__ = ["renew_card", "write_card"]

HUB = "https://huggingface.co"
LARGEST_CARD = 4 << 20  # bytes, of one that its owner has written on
ELEUTHER = {preset.hub_id.lower() for preset in PRESETS.values() if preset.hub_id.startswith("EleutherAI/")}
PILE = """\
[EleutherAI's card]({address}) says of GPT-Neo: it predicts the next token, and how it does at other tasks is largely
unknown. It was trained on the Pile, which is known to hold profanity, lewd and otherwise abrasive language, so it may
produce text that is socially unacceptable; sections 5 and 6 of [the Pile's paper](https://arxiv.org/abs/2101.00027)
analyse its biases. How it answers a prompt is hard to predict, and offensive content may come without warning: have a
human curate or filter what it writes before it is released."""
USE = """\
Generating and scoring text on CPUs, as the original does, and research on that. Its authors say what the model itself
is meant for. It continues text: unless it was trained to, it follows no instructions, and what it states need not be
true."""
RUN = """\
With neort installed, and this folder as `BUNDLE`:

```bash
neort generate "Once upon a time" --model BUNDLE --max-new-tokens 40
neort verify BUNDLE
```

```python
import neort

model = neort.load("BUNDLE")
print(model.generate("Once upon a time", max_new_tokens=40).text)
```

Other programs read `model.onnx`: onnxruntime-genai by `onnxruntime_genai.Model("BUNDLE")`; optimum by
`ORTModelForCausalLM.from_pretrained("BUNDLE", file_name="model.onnx")`; any program with onnxruntime by the loop that
neort's docs/embedding.md describes."""


def write_card(folder: Path, source: Checkpoint) -> None:
    """Write README.md into a folder that has its manifest, and what was measured, already."""
    manifest = read_object(folder / MANIFEST)
    parts = _parts(manifest, source, read_original_card(source.path), figures_of(folder))
    (folder / CARD).write_text("\n".join(parts) + "\n", encoding="utf-8")


def renew_card(old: Path, folder: Path, source: Checkpoint) -> None:
    """Write README.md into ``folder`` as it was in ``old``, with the figures that are measured now.

    Where the figures' place was removed it stays as it was; where there is no card, or no text, one is written.
    """
    try:
        text = read_regular(old / CARD, LARGEST_CARD).decode("utf-8")
    except (OSError, ValueError):
        write_card(folder, source)
        return
    (folder / CARD).write_text(with_figures(text, figures_of(folder)), encoding="utf-8", newline="")


def _parts(manifest: Mapping[str, Any], source: Checkpoint, original: OriginalCard, figures: str) -> Iterator[str]:
    quantization = manifest["recipe"]["quantization"]
    yield front_matter(_header(manifest, source, original))
    yield f"# {code(_title(manifest))}, {quantization}, for CPUs"
    yield ""
    yield from _about(manifest, source)
    yield ""
    yield from _section("Licence", _licence(original))
    yield from _section("Format", _format(manifest))
    yield from _section("Figures", figures)
    yield from _section("Intended use", USE)
    yield from _section("Limits and biases", *_limits(manifest, source, original))
    yield "## How to run it"
    yield ""
    yield RUN


def _section(title: str, *paragraphs: str) -> Iterator[str]:
    yield f"## {title}"
    for paragraph in paragraphs:
        yield ""
        yield paragraph
    yield ""


def _title(manifest: Mapping[str, Any]) -> str:
    return str(manifest["source"]["name"]).rpartition("/")[2]


def _header(manifest: Mapping[str, Any], source: Checkpoint, original: OriginalCard) -> dict[str, Any]:
    quantization = manifest["recipe"]["quantization"]
    base, relation = _base(source, original, quantized=quantization != "fp32")
    return {
        "library_name": "neort",
        "pipeline_tag": "text-generation",
        "license": original.licence,
        "license_name": original.licence_name,
        "license_link": original.licence_link,
        "language": list(original.languages),
        "datasets": list(original.datasets),
        "base_model": base,
        "base_model_relation": relation,
        "tags": [source.architecture.model_type, "onnx", "onnxruntime", "cpu", quantization],
    }


def _base(source: Checkpoint, original: OriginalCard, *, quantized: bool) -> tuple[str | list[str] | None, str | None]:
    """The base model on the hub, and what the bundle is to it, as far as both are known.

    A checkpoint from a folder may be anything that was made of what its card or its configuration names.
    """
    if source.revision is None:
        named = getattr(source.config, "_name_or_path", "")
        return original.base_model or (named if HUB_ID.fullmatch(str(named)) else None), None
    if source.adapter is not None:
        adapter = [source.adapter.name] if HUB_ID.fullmatch(source.adapter.name) else []
        return [source.source, *adapter], "finetune"
    return source.source, "quantized" if quantized else None


def _about(manifest: Mapping[str, Any], source: Checkpoint) -> Iterator[str]:
    model, name = manifest["model"], manifest["source"]["name"]
    origin = f"the checkpoint {code(name)}"
    if source.revision is not None:
        origin = f"[{code(name)}]({HUB}/{name}) at commit `{source.revision}`"
    merged = "" if source.adapter is None else f", with the LoRA adapter {code(source.adapter.name)} merged in"
    yield (
        f"A bundle that neort-export {manifest['tools']['neort']} made of {origin}{merged}: ONNX graphs, weights, "
        "tokenizer and the figures of its verification. neort runs it on CPUs with numpy and onnxruntime, without "
        "torch."
    )
    yield ""
    yield (
        f"Architecture {code(model['architecture'])}: {model['num_layers']} layers, hidden size "
        f"{model['hidden_size']:,}, {model['num_heads']} heads, {model['vocab_size']:,} tokens in the vocabulary, "
        f"{model['max_position_embeddings']:,} positions."
    )


def _licence(original: OriginalCard) -> str:
    if original.licence is None:
        return (
            "Not known: no licence stands in a card beside the original's weights. Ask its authors before you use this "
            "bundle or pass it on."
        )
    named = f" ({original.licence_name})" if original.licence_name else ""
    return f"That of the original, by its own card: {original.licence}{named}."


def _format(manifest: Mapping[str, Any]) -> str:
    recipe = manifest["recipe"]
    size = sum(facts["bytes"] for facts in manifest["files"].values()) / 1e6
    if recipe["quantization"] == "fp32":
        return f"fp32: all weights in float32, as torch computes with them. {size:,.1f} MB in all."
    return (
        f"{recipe['quantization']}: weights {recipe['weights']}; activations {recipe['activations']}. Norms, biases "
        f"and position embeddings stay float32. Refinements: {', '.join(recipe['refinements'])}. {size:,.1f} MB in all."
    )


def _limits(manifest: Mapping[str, Any], source: Checkpoint, original: OriginalCard) -> Iterator[str]:
    positions = manifest["model"]["max_position_embeddings"]
    yield (
        f"At most {positions:,} tokens of prompt and new text together. What the original gets wrong, and whatever "
        "biases its training data has, this bundle has too; quantization adds the differences above."
    )
    base = source.source if source.revision is not None else original.base_model
    if base is not None and base.lower() in ELEUTHER:
        yield PILE.format(address=f"{HUB}/{base}")
    elif original.limits:
        yield "The original's card says:"
        yield quoted(original.limits)
    if source.revision is not None:
        yield f"More is in [the original's card]({HUB}/{source.source})."
    elif original.exists and not original.limits:
        yield "More is in the card beside the original's weights."
