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

## In a generation_config.json

Every file that transformers loads makes a bundle that loads, but for one with NaN or Infinity, which are no
JSON; a file that is no JSON is refused, where transformers goes by config.json without a word. Options that
neort lacks, and values without a sound meaning, are left out and named in one warning, at the export and at
each load. Whole numbers may be written as 64.0. A negative token id is none, a temperature of 0 means greedy
decoding, a `top_k` that is null or no number of tokens is off (transformers 5 takes null as 50), and a
`min_new_tokens` beyond `max_new_tokens` holds as far as that. `max_length`, which counts the prompt, too, is
not honoured: without a `max_new_tokens` it is 128. A checkpoint without the file has its options from
config.json, as in transformers. `task_specific_params` there are not read: transformers' `generate` never
applies them, only pipelines of its release 4 do.

## Stop strings

A stop string may be the text of a special token, or hold one; it ends the text, which never shows special
tokens. As in transformers it may begin in the prompt: `"\\n\\n"` stops at the first line feed after a prompt that ends
with one. It is no part of the text, where transformers keeps it.

On the command line `\\n`, `\\r`, `\\t`, `\\\\` and `\\uXXXX` in `--stop` stand for a line feed, a
carriage return, a tab, one backslash and the character of that number, as in JSON, in every shell: `--stop
'\\n'`, in cmd.exe `--stop "\\n"`. Any other backslash is itself. In Python a stop string is taken as it is, and
so are prompts everywhere.

## Options

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
