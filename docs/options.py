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
keys of a bundle's `generation_config.json`. Names and meanings are transformers', or llama.cpp's and vLLM's where
transformers has none. `None` means off. An unknown name is refused, and so is an option of sampling without
`do_sample=True`; `do_sample=False` puts these back to their defaults.

What is a function is an argument of the call instead: `logits_processor`, `stopping_criteria`
(`neort.StoppingCriterion`: functions of the ids so far that return whether the text ends) and
`prefix_allowed_tokens_fn` (a function of the prompt's number in the list and of the ids so far, which returns the ids
of the tokens that may come next).

## Order

Options change the logits in this order, which is transformers' (`_get_logits_processor` of release 5.24), with the
others where llama.cpp and vLLM have them:

| | option | as in |
|---|---|---|
| 1 | allowed_token_ids | vLLM |
| 2 | sequence_bias | transformers, SequenceBiasLogitsProcessor |
| 3 | logit_bias | OpenAI, vLLM |
| 4 | repetition_penalty | transformers, RepetitionPenaltyLogitsProcessor |
| 5 | frequency_penalty, presence_penalty: of the new text | OpenAI, vLLM |
| 6 | dry_multiplier, dry_base, dry_allowed_length, dry_penalty_last_n, dry_sequence_breakers | llama.cpp |
| 7 | no_repeat_ngram_size | transformers, NoRepeatNGramLogitsProcessor |
| 8 | bad_words_ids | transformers, NoBadWordsLogitsProcessor |
| 9 | min_length, or min_new_tokens | transformers, MinLengthLogitsProcessor, MinNewTokensLengthLogitsProcessor |
| 10 | prefix_allowed_tokens_fn | transformers, PrefixConstrainedLogitsProcessor |
| 11 | forced_bos_token_id, then forced_eos_token_id | transformers, ForcedBOS- and ForcedEOSTokenLogitsProcessor |
| 12 | remove_invalid_values | transformers, InfNanRemoveLogitsProcessor |
| 13 | exponential_decay_length_penalty | transformers, ExponentialDecayLengthPenalty |
| 14 | suppress_tokens, then begin_suppress_tokens | transformers, SuppressTokens- and -AtBeginLogitsProcessor |
| 15 | logits_processor, the caller's own | transformers |
| | with do_sample: | |
| 16 | temperature | transformers, TemperatureLogitsWarper |
| 17 | top_n_sigma | llama.cpp; before what narrows the choice, since all logits count |
| 18 | top_h | transformers, TopHLogitsWarper |
| 19 | top_k | transformers, TopKLogitsWarper |
| 20 | top_p | transformers, TopPLogitsWarper |
| 21 | min_p | transformers, MinPLogitsWarper |
| 22 | typical_p | transformers, TypicalLogitsWarper |
| 23 | epsilon_cutoff | transformers, EpsilonLogitsWarper |
| 24 | eta_cutoff | transformers, EtaLogitsWarper |
| 25 | xtc_probability, xtc_threshold | llama.cpp; after the other filters |
| | in any case: | |
| 26 | renormalize_logits | transformers, LogitNormalization |

Greedy decoding leaves out what cannot change the most probable token. What the options cost is in
[benchmarks.md](benchmarks.md#choosing-tokens). DRY's sequence breakers are found in the texts of the bundle's tokens,
as in llama.cpp. Ids that the model does not have are ignored, where transformers refuses some of them.

`max_length` counts the prompt's tokens. A `max_new_tokens` of the same call, or of the same file, holds instead of it;
of a config's and a call's the call's holds. `max_time` ends a text with the token after which so many seconds have
passed, waiting included, and with finish_reason "length"; stopping criteria end it with "stop".

## In a generation_config.json

Every file that transformers loads makes a bundle that loads, but for one with NaN or Infinity, which are no
JSON; a file that is no JSON is refused, where transformers goes by config.json without a word. Options that
neort lacks, and values without a sound meaning, are left out and named in one warning, at the export and at
each load. Whole numbers may be written as 64.0. A negative token id is none, a temperature of 0 means greedy
decoding, a `top_k` that is null or no number of tokens is off (transformers 5 takes null as 50), and a
`min_new_tokens` beyond `max_new_tokens` holds as far as that. A `max_length` of 20, which transformers 4 writes
where nobody has set one, counts as none. A checkpoint without the file has its options from
config.json, as in transformers. `task_specific_params` there are not read: transformers' `generate` never
applies them, only pipelines of its release 4 do.

## Stop strings

A stop string may be the text of a special token, or hold one; it ends the text, which never shows special
tokens. As in transformers it may begin in the prompt: `"\\n\\n"` stops at the first line feed after a prompt that ends
with one. `stop_in_new_text=True` lets such a one pass, and those that end within the first `min_new_tokens`, as
OpenAI's and vLLM's servers do. It is no part of the text, where transformers keeps it.

On the command line `\\n`, `\\r`, `\\t`, `\\\\` and `\\uXXXX` in `--stop` stand for a line feed, a
carriage return, a tab, one backslash and the character of that number, as in JSON, in every shell: `--stop
'\\n'`, in cmd.exe `--stop "\\n"`. Any other backslash is itself. In Python a stop string is taken as it is, and
so are prompts everywhere.

## Options

Values that are lists or mappings are written as JSON on the command line: `--logit-bias '{"11": -2.0}'`.

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
