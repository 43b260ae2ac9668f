"""Names that other libraries have for options and arguments, and what to use here.

Those of transformers, OpenAI, vLLM and llama.cpp. An option that neort comes to have leaves its table.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

from ..errors import ArgumentTypeError
from ..wording import shortened

__all__ = ["KNOWN_ELSEWHERE", "LOAD_KNOWN_ELSEWHERE", "for_option", "for_unknown", "hinting"]

_Function = TypeVar("_Function", bound=Callable[..., Any])

_PROCESSOR = "neort does not have it, but a logits_processor of your own can do it"
_NO_GROUPS = "beams are neither grouped nor constrained here: leave it out, num_beams searches with plain beams"
_DRAFT = 'neort.load takes it: draft="prompt-lookup", or draft= a smaller model\'s bundle'
_CACHE = "the key-value cache is always used: leave it out; neort.load has kv_cache and max_cache_bytes for it"
_NO_EFFECT = "it would change no token here: leave it out"
_NO_ENCODER = "these models have no encoder: leave it out"
_LOGITS = "use logprobs for log-probabilities of tokens; Model.logits gives the logits at every position of a sequence"
_STREAM = "call Model.stream, which yields the text piece by piece"

_SENTENCES: dict[str, tuple[str, ...]] = {
    "use max_new_tokens": (
        "max_tokens", "max_completion_tokens", "max_output_tokens", "max_tokens_to_sample", "max_generated_tokens",
        "n_predict", "num_predict", "predict",
    ),
    "use min_new_tokens": ("min_tokens",),
    "use stop_strings": ("stop", "stop_sequences", "stop_sequence", "stop_words", "until"),
    "use num_return_sequences": ("n", "num_samples", "num_completions", "num_sequences"),
    "use temperature": ("temp",),
    "use repetition_penalty": ("repeat_penalty", "rep_pen"),
    "use seed": ("manual_seed", "random_seed", "random_state", "generator"),
    "use do_sample": ("sample", "sampling", "greedy"),
    "use eos_token_id": ("eos_token", "eos_token_ids", "stop_token_ids"),
    "use pad_token_id": ("pad_token",),
    "the argument is called config, and is a neort.GenerationConfig": ("generation_config", "sampling_params"),
    "the prompt is the first argument, as text or as token ids": (
        "inputs", "input_ids", "inputs_embeds", "prompt_token_ids", "text", "messages", "text_inputs",
    ),
    "prompts of a list are never padded: leave it out": ("attention_mask", "position_ids", "token_type_ids", "padding"),
    _STREAM: ("streamer", "stream", "callback"),
    "it is an argument of Model.generate and Model.stream, and no option": (
        "stopping_criteria", "logits_processor", "prefix_allowed_tokens_fn",
    ),
    "use logits_processor, an argument of Model.generate and Model.stream": ("logits_processors", "processors"),
    "use max_time": ("timeout", "time_limit", "t_max_predict_ms"),
    "use typical_p": ("typical",),
    "use bad_words_ids, or suppress_tokens for single tokens": ("bad_words", "banned_tokens"),
    "repetition_penalty looks at the whole of prompt and text: leave it out": ("repeat_last_n", "penalty_last_n"),
    "it follows from the options that are on, see docs/options.md: leave it out": ("samplers", "sampler_order"),
    "Completion.text never holds the prompt; write prompt + text where you want both": (
        "return_full_text", "return_text", "return_tensors", "echo",
    ),
    "nothing is put between the texts of tokens here: leave it out": (
        "spaces_between_special_tokens", "clean_up_tokenization_spaces",
    ),
    "a Completion has text, token_ids, finish_reason and stats in any case: leave it out": ("return_dict_in_generate",),
    "Model.embed gives the hidden states of texts; neort has no attentions": (
        "output_attentions", "output_hidden_states",
    ),
    _LOGITS: ("output_scores", "output_logits"),
    "use logprobs, the number of most probable tokens beside the chosen one": ("top_logprobs", "n_probs"),
    "use num_beams": ("beam_size", "beam_width", "use_beam_search"),
    "use num_return_sequences, and take the best of them": ("best_of",),
    _NO_GROUPS: ("num_beam_groups", "diversity_penalty", "constraints", "force_words_ids"),
    "neort has no contrastive search: leave it out": ("penalty_alpha", "low_memory"),
    "neort has no DoLa decoding: leave it out": ("dola_layers",),
    "it is an argument of Model.generate and Model.stream, no option of a configuration": ("negative_prompt",),
    "use negative_prompt, an argument of Model.generate and Model.stream that takes text or token ids": (
        "negative_prompt_ids", "negative_prompt_attention_mask",
    ),
    "neort has no token healing: end the prompt without a blank, or with a whole word": ("token_healing",),
    "neort has no tools and no chats: the models continue plain text": ("tools", "tool_choice", "chat_template"),
    "use json_schema, regex, grammar or choice": (
        "guided_decoding", "structured_outputs", "structured_output", "guided_options_request", "output_type",
    ),
    "use json_schema; json_schema=True is any JSON value": (
        "response_format", "guided_json", "guided_json_object", "json", "format", "schema", "json_object",
        "response_schema",
    ),
    "use regex": ("guided_regex", "pattern"),
    "use choice": ("guided_choice", "choices"),
    "use grammar, in llguidance's dialect of Lark": ("guided_grammar", "lark", "gbnf", "ebnf", "grammar_file"),
    _PROCESSOR: (
        "top_a", "tfs", "tfs_z", "mirostat", "mirostat_tau", "mirostat_eta", "mirostat_mode", "dynatemp_range",
        "dynatemp_exponent", "watermarking_config",
    ),
    _NO_EFFECT: (
        "prefill_chunk_size", "compile_config", "disable_compile", "synced_gpus",
        "continuous_batching_config", "transformers_version", "use_model_defaults", "custom_generate",
    ),
    _CACHE: (
        "use_cache", "no_cache", "cache_implementation", "cache_config", "max_cache_len", "past_key_values",
        "return_legacy_cache", "cache_prompt",
    ),
    _DRAFT: (
        "assistant_model", "assistant_tokenizer", "assistant_confidence_threshold", "assistant_early_exit",
        "assistant_ensemble_weight", "assistant_lookbehind", "draft", "draft_model", "is_assistant",
        "max_matching_ngram_size", "num_assistant_tokens", "num_assistant_tokens_schedule", "num_speculative_tokens",
        "prompt_lookup_num_tokens", "speculation_type", "speculative_config", "target_lookbehind", "use_mtp",
    ),
    "a prompt that is text gets the tokens that the bundle's tokenizer puts around texts; begin it with another one's "
    "text, or give token ids": ("bos_token_id", "bos_token", "add_bos_token", "add_special_tokens"),
    _NO_ENCODER: ("decoder_start_token_id", "encoder_no_repeat_ngram_size", "encoder_repetition_penalty"),
    "the bundle's own tokenizer is used: leave it out": ("tokenizer",),
    "say overflow=\"truncate_left\" to drop a long prompt's oldest tokens": ("truncation", "truncate_prompt_tokens"),
    "neort.load takes it": ("num_threads", "kv_cache", "max_batch_size"),
}  # fmt: skip

KNOWN_ELSEWHERE = {name: sentence for sentence, names in _SENTENCES.items() for name in names}


_TO_LOAD: dict[str, tuple[str, ...]] = {
    "neort runs on the CPU: leave it out": (
        "device", "device_map", "device_id", "n_gpu_layers", "gpu_layers", "gpu_memory_utilization", "cuda",
        "tensor_parallel_size", "max_memory", "offload_folder",
    ),
    "a bundle has its format from the export: neort-export CHECKPOINT -o BUNDLE --quantization FORMAT": (
        "dtype", "torch_dtype", "quantization", "quantization_config", "load_in_8bit", "load_in_4bit", "compute_type",
        "precision", "gguf_file", "variant", "use_safetensors", "from_tf", "from_flax", "state_dict", "config",
    ),
    "neort.load opens a folder, and never a connection: neort-export is what fetches a checkpoint": (
        "revision", "code_revision", "subfolder", "cache_dir", "token", "use_auth_token", "local_files_only",
        "force_download", "resume_download", "proxies", "download_dir", "hf_token",
    ),
    "no code of a checkpoint is ever run: leave it out": ("trust_remote_code",),
    "use num_threads": (
        "threads", "n_threads", "n_threads_batch", "threads_batch", "num_workers", "intra_op_num_threads",
        "intra_threads", "cpu_threads",
    ),
    "use max_batch_size": ("batch_size", "max_num_seqs", "n_batch", "n_parallel", "parallel"),
    "the context is the model's own, and max_cache_bytes limits its memory": (
        "n_ctx", "ctx_size", "context_length", "max_model_len", "max_seq_len", "max_length", "model_max_length",
        "max_position_embeddings", "max_context_tokens",
    ),
    "the bundle's folder is the first argument": (
        "model", "model_path", "model_id", "model_name", "model_dir", "path", "folder", "repo_id",
        "pretrained_model_name_or_path", "bundle_path",
    ),
    "the bundle's own tokenizer is used: leave it out": ("tokenizer", "tokenizer_mode", "use_fast"),
    'use draft: "prompt-lookup", or the folder of a smaller model\'s bundle': (
        "assistant_model", "draft_model", "model_draft", "speculative_model", "speculative_config",
    ),
    'use kv_cache: "fp32" or "int8"': (
        "kv_cache_dtype", "cache_type", "cache_type_k", "cache_type_v", "type_k", "type_v",
    ),
    "use prefix_cache_bytes": ("enable_prefix_caching", "prefix_caching", "prefix_cache"),
    "use configure_session, a function of onnxruntime's options": (
        "sess_options", "session_options", "provider", "providers", "provider_options", "inter_op_num_threads",
    ),
    "use packed_weights": ("packed", "prepacked"),
    "weights are mapped into memory, and attention is the graph's: leave it out": (
        "low_cpu_mem_usage", "use_mmap", "mmap", "use_mlock", "mlock", "attn_implementation", "use_cache",
        "use_io_binding", "verbose", "enforce_eager", "flash_attn", "export", "library",
    ),
}  # fmt: skip

LOAD_KNOWN_ELSEWHERE = {name: sentence for sentence, names in _TO_LOAD.items() for name in names}


def for_option(name: str, known: Iterable[str]) -> str:
    """The end of a message about an option that does not exist: what to use instead, as far as that can be told."""
    told = LOAD_KNOWN_ELSEWHERE.get(name)
    if told is None or name in KNOWN_ELSEWHERE:
        return for_unknown(name, known, KNOWN_ELSEWHERE)
    return f"neort.load takes it: {told}" if told.startswith("use ") else told


def for_unknown(name: str, known: Iterable[str], hints: Mapping[str, str]) -> str:
    """What one of the ``hints`` says about a name that is none of the ``known`` ones, else the closest name, or all."""
    if name in hints:
        return hints[name]
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {shortened(close[0])}?" if close else f"known options: {', '.join(names)}."


def hinting(function: _Function, hints: Mapping[str, str], options: Iterable[str]) -> _Function:
    """The function, which says what to use in the place of an argument that it does not have.

    ``options`` are those of Model.generate. What it then raises is an ArgumentTypeError.
    """
    names = inspect.signature(function).parameters

    @functools.wraps(function)
    def hinted(*args: Any, **arguments: Any) -> Any:
        for name in arguments.keys() - names.keys():
            told = "give it to Model.generate" if name in options else for_unknown(name, names, hints)
            raise ArgumentTypeError(f"{function.__name__} has no argument {shortened(name)}; {told}")
        return function(*args, **arguments)

    return cast("_Function", hinted)
