"""Kinds and reasons that several requests share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....generation.config import OPTIONS
from ....generation.options import Integer as IntegerOption
from ....generation.options import Real
from ..fields import Unused, wire
from ..kinds import Array, Integer, Kind, Number, OneOf, Text

__all__ = ["ANY_PROMPT", "ELSEWHERE", "IDS", "ONE_PROMPT", "TOKEN", "UNUSED", "model_field", "passed", "several"]

TOKEN = Integer(0, "largest_id")
IDS = Array(TOKEN, 1)
PROMPTS_TOLD = "a string, a list of token ids, or a list of these"
ONE_PROMPT = OneOf((Text(empty=False), IDS), "a string or a list of token ids")
ANY_PROMPT = OneOf(
    (
        Text(empty=False),
        IDS,
        Array(OneOf((Text(empty=False), IDS), "a string or a list of token ids"), 1, "max_prompts"),
    ),
    PROMPTS_TOLD,
)

#: What OpenAI's and vLLM's requests for new text may hold beside, with no effect or refused.
UNUSED: Mapping[str, Unused] = {
    "user": Unused("nothing is kept about who asks"),
    "store": Unused("no request is ever stored"),
    "metadata": Unused("no request is ever stored"),
    "service_tier": Unused("there is one tier; priority orders requests"),
    "safety_identifier": Unused("nothing is kept about who asks"),
    "prompt_cache_key": Unused("prompts that begin alike share their beginning by themselves"),
    "prompt_cache_retention": Unused("the prefix cache keeps what was used last"),
    "spaces_between_special_tokens": Unused("nothing is put between the texts of tokens"),
    "length_penalty": Unused("it has an effect in beam search only, which is not served"),
    "early_stopping": Unused("it has an effect in beam search only, which is not served"),
    "use_beam_search": Unused(
        "beam search is not served; Model.generate has num_beams, and best_of ranks samples", (False,)
    ),
    "cache_salt": Unused("all clients share one prefix cache; serve them by processes of their own", ()),
    "prompt_embeds": Unused("a prompt is text or token ids", ()),
    "bad_words": Unused("use logit_bias, with -100 for each token id that must not come up", ([],)),
    "logits_processors": Unused("no code of a request is run", ([],)),
    "kv_transfer_params": Unused("the cache stays in one process", ()),
    "ec_transfer_params": Unused("these models know text alone", ()),
    "vllm_xargs": Unused("it is for plugins of vLLM", ()),
    "session_id": Unused("prompts that begin alike share their beginning by themselves"),
    "stream_interval": Unused("a stream has an event for each token", (1,)),
    "truncation_side": Unused("truncate_prompt_tokens keeps a prompt's end", ("left",)),
    "logprob_token_ids": Unused("use logprobs", ([],)),
    "repetition_detection": Unused("use no_repeat_ngram_size, or dry_multiplier", ()),
    "thinking_token_budget": Unused("these models have no reasoning apart from the text", (-1,)),
    "watermarking": Unused("texts are not marked", (False,)),
    "structural_tag": Unused("use structured_outputs with json, regex, choice or grammar", ()),
    "guided_json": Unused("use structured_outputs with json, or response_format", ()),
    "guided_regex": Unused("use structured_outputs with regex", ()),
    "guided_choice": Unused("use structured_outputs with choice", ()),
    "guided_grammar": Unused("use structured_outputs with grammar", ()),
    "guided_decoding_backend": Unused("llguidance is the only one; leave it out", ()),
    "guided_whitespace_pattern": Unused("JSON is written as Python's json.dumps does; leave it out", ()),
}

#: Names of other libraries, and what to use instead.
ELSEWHERE: Mapping[str, str] = {
    "max_new_tokens": "use max_tokens",
    "max_length": "use max_tokens, which does not count the prompt",
    "n_predict": "use max_tokens",
    "num_predict": "use max_tokens",
    "do_sample": "temperature 0 takes the most probable token each time, any other samples",
    "num_return_sequences": "use n",
    "num_beams": "beam search is not served; Model.generate has it",
    "stop_strings": "use stop",
    "stop_sequences": "use stop",
    "eos_token_id": "use stop_token_ids",
    "repeat_penalty": "use repetition_penalty",
    "n_probs": "use logprobs",
    "samplers": "their order is that of transformers; leave it out",
    "cache_prompt": "prompts that begin alike share their beginning by themselves; leave it out",
    "id_slot": "requests get slots as they come; leave it out",
    "typical": "use typical_p",
    "min_new_tokens": "use min_tokens",
    "json_schema": "use response_format, or structured_outputs with json",
    "regex": "use structured_outputs with regex",
    "grammar": "use structured_outputs with grammar",
    "choice": "use structured_outputs with choice",
    "text": "use prompt",
    "inputs": "use prompt",
    "input_ids": "use prompt, which may be a list of token ids",
    "max_time": "the server sets a timeout for all requests",
}


def model_field() -> Any:
    """The field that names a model."""
    return wire(Text(empty=False, longest=256), "the name of a model, as GET /v1/models lists it; else the first one")


def passed(name: str, default: Any = None) -> Any:
    """A field that is an option of `neort.GenerationConfig`, by its own name."""
    facts = OPTIONS[name]
    kind: Kind
    if isinstance(facts.kind, Real):
        kind = Number(facts.kind.least, facts.kind.most)
    else:
        assert isinstance(facts.kind, IntegerOption)
        kind = Integer(facts.kind.least, facts.kind.most)
    return wire(kind, facts.help, option=name, default=default)


def several(most: int, longest: int) -> Kind:
    """A string or a list of them, whose number and length are what may be made ready for each sequence."""
    string = Text(empty=False, longest=longest)
    return OneOf((string, Array(string, 0, most)), f"a string or a list of up to {most} strings")
