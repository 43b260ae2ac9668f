"""Writes docs/options.md from the fields of GenerationConfig: python docs/options.py"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from neort import GenerationConfig
from neort.generation import OPTIONS

PAGE = Path(__file__).with_name("options.md")
TEXT = """# Generation options

The options of `neort.GenerationConfig`: arguments of `Model.generate` and `Model.stream`, flags of `neort generate`,
keys of a bundle's `generation_config.json`. Names and meanings are transformers', and so is the order in which they
change logits: repetition_penalty, min_length, min_new_tokens, temperature, top_k, top_p. `None` means off. An unknown
name is refused, and so is an option of sampling without `do_sample=True`; `do_sample=False` puts these back to their
defaults.

| option | default | flag | values (JSON Schema) | |
|---|---|---|---|---|
"""


def page() -> str:
    """The whole page; one row per option."""
    defaults = {field.name: field.default for field in dataclasses.fields(GenerationConfig)}
    rows = []
    for name, option in OPTIONS.items():
        values = json.dumps(option.kind.json_schema())
        rows.append(f"| {name} | `{defaults[name]!r}` | `{option.flag}` | `{values}` | {option.help} |\n")
    return TEXT + "".join(rows)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
