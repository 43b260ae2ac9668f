"""README.md of a hub repository: one card of those of the bundles in its folders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from neort.bundle import Bundle
from neort.paths import read_regular

from ..bundle import CARD, common_figures
from ..markdown import code, front_matter, read_front_matter
from .header import merged_header, read_header
from .sections import Card, merged, merged_sections, read_card

__all__ = ["repository_card"]

LARGEST_CARD = 4 << 20
FIGURES, FORMAT, RUN = "Figures", "Format", "How to run it"
COMMANDS = """\
With neort installed:

```bash
neort pull {repository}{flag}
neort generate "Once upon a time" --model {repository}{folder} --max-new-tokens 40
```

```python
import neort

model = neort.load("{repository}{folder}")  # what was pulled; loading opens no connection
print(model.generate("Once upon a time", max_new_tokens=40).text)
```

Other programs read `model.onnx` of a folder, `BUNDLE`, which `hf download {repository} --include "{format}/*"` fetches:
onnxruntime-genai by `onnxruntime_genai.Model("BUNDLE")`; optimum by
`ORTModelForCausalLM.from_pretrained("BUNDLE", file_name="model.onnx")`; any program with onnxruntime by the loop that
neort's docs/embedding.md describes."""


def repository_card(bundles: Mapping[str, Bundle], repository: str) -> tuple[str, bool]:
    """The card of a repository with these bundles, by their formats; and whether it names a licence.

    Raises ExportError for cards that contradict each other.
    """
    texts = {name: _text(bundle.path) for name, bundle in bundles.items()}
    cards = {name: read_card(read_front_matter(text)[1]) for name, text in texts.items()}
    headers = {name: read_header(text) for name, text in texts.items()}
    header = merged_header(headers, {name: bundle.manifest for name, bundle in bundles.items()})
    parts = _parts(bundles, cards, repository)
    return front_matter(header) + "\n" + "\n\n".join(filter(None, parts)) + "\n", bool(header.get("license"))


def _text(folder: Path) -> str:
    """A bundle's card; empty where it has none."""
    try:
        return read_regular(folder / CARD, LARGEST_CARD).decode("utf-8", errors="replace")
    except OSError:
        return ""


def _parts(bundles: Mapping[str, Bundle], cards: Mapping[str, Card], repository: str) -> Iterator[str]:
    several = len(bundles) > 1
    first = "int8" if "int8" in bundles else next(iter(bundles))
    yield f"# {code(repository.rpartition('/')[2])}{'' if several else f', {first}'}, for CPUs"
    yield merged({name: card.about for name, card in cards.items()}, of=len(cards))
    if several:
        yield "## Formats"
        yield _formats(bundles)
    for heading, text in merged_sections(cards, without=(FIGURES, RUN)):
        yield f"## {heading}"
        yield text
        if heading == FORMAT:
            yield from _figures(bundles)
    if not any(FORMAT in card.sections for card in cards.values()):
        yield from _figures(bundles)
    yield f"## {RUN}"
    yield COMMANDS.format(
        repository=repository,
        flag=f" --format {first}" if several else "",
        folder=f"/{first}" if several else "",
        format=first,
    )


def _figures(bundles: Mapping[str, Bundle]) -> Iterator[str]:
    yield f"## {FIGURES}"
    yield common_figures([bundle.path for bundle in bundles.values()])


def _formats(bundles: Mapping[str, Bundle]) -> str:
    """A line for each folder."""
    rows = ["| folder | MB | weights |", "|---|---|---|"]
    return "\n".join([*rows, *(_row(name, bundle) for name, bundle in bundles.items())])


def _row(name: str, bundle: Bundle) -> str:
    recipe: dict[str, Any] = bundle.manifest["recipe"]
    weights = str(recipe.get("weights", "float32"))
    return f"| [{name}](./{name}) | {sum(bundle.file_sizes.values()) / 1e6:,.1f} | {weights} |"
