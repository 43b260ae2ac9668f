"""The chain of logits processors that a configuration asks for, in its order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ...tokenizer import Tokenizer
from ..config import GenerationConfig
from ..samplers import make_generator
from .biases import AllowedTokens, SequenceBias, bad_words, logit_bias
from .dry import NO_BREAKERS, Dry, breakers_of
from .entropy_filters import EpsilonCutoff, EtaCutoff, TopH, TypicalP
from .filters import Filter, Filters, MinP, TopK, TopNSigma, TopP, Xtc
from .lengths import ExponentialDecay, ForcedTokens, MinLength, SuppressAtBegin, SuppressTokens
from .penalties import NoRepeatNGram, OccurrencePenalties, RepetitionPenalty
from .protocol import Guarded, LogitsProcessor
from .scaling import RemoveInvalid, Renormalize, Temperature

__all__ = ["build_processors"]

ANY_SIZE = np.iinfo(np.int64).max


def build_processors(
    config: GenerationConfig,
    prompt_length: int,
    vocab_size: int | None = None,
    *,
    own: Sequence[LogitsProcessor] = (),
    prefix_allowed: LogitsProcessor | None = None,
    constraint: LogitsProcessor | None = None,
    tokenizer: Tokenizer | None = None,
    index: int = 0,
    least: int = 1,
) -> list[LogitsProcessor]:
    """Return the processors that ``config`` asks for, in transformers' order; docs/options.md has it whole.

    Options at a neutral value, or without an end-of-text token to act on, add none. ``prompt_length`` is the number of
    tokens in the prompt. ``vocab_size`` is V, where known: end-of-text ids and a top_k beyond it then add none either.

    ``prefix_allowed`` comes where transformers has it; the caller's ``own`` come after those of greedy decoding; the
    ``constraint`` of a grammar comes next, so that nothing before undoes it and what narrows the choice leaves a token.
    ``tokenizer`` finds DRY's sequence breakers, of which there are none without it. ``index`` is that of a return
    sequence, as in `make_generator`. Filters keep at least ``least`` tokens, as transformers' do in beam sampling.
    """
    size = ANY_SIZE if vocab_size is None else vocab_size
    eos_ids = tuple(token for token in config.eos_token_ids if token < size)
    processors: list[LogitsProcessor] = [
        *_biases(config),
        *_penalties(config, prompt_length, tokenizer),
        *_bans(config, prompt_length, eos_ids),
        *([prefix_allowed] if prefix_allowed is not None else []),
        *_forced(config, prompt_length, eos_ids),
        *(Guarded(processor) for processor in own),
        *([constraint] if constraint is not None else []),
    ]
    if config.do_sample:
        if config.temperature not in (None, 1.0):
            processors.append(Temperature(config.temperature))
        filters = list(_filters(config, size, index, least))
        if filters:
            processors.append(Filters(filters))
    if config.renormalize_logits:
        processors.append(Renormalize())
    return processors


def _biases(config: GenerationConfig) -> Iterator[LogitsProcessor]:
    stored: Any = config  # tuples, whatever was given
    if config.allowed_token_ids:
        yield AllowedTokens(stored.allowed_token_ids)
    if config.sequence_bias:
        yield SequenceBias(stored.sequence_bias)
    if config.logit_bias:
        yield logit_bias(stored.logit_bias)


def _penalties(config: GenerationConfig, prompt_length: int, tokenizer: Tokenizer | None) -> Iterator[LogitsProcessor]:
    if config.repetition_penalty not in (None, 1.0):
        yield RepetitionPenalty(config.repetition_penalty)
    if config.frequency_penalty or config.presence_penalty:
        yield OccurrencePenalties(prompt_length, config.frequency_penalty or 0.0, config.presence_penalty or 0.0)
    if config.dry_multiplier and config.dry_penalty_last_n:
        breakers = NO_BREAKERS if tokenizer is None else breakers_of(config.dry_breakers, tokenizer)
        yield Dry(
            config.dry_multiplier, config.dry_base, config.dry_allowed_length, config.dry_penalty_last_n, breakers
        )


def _bans(config: GenerationConfig, prompt_length: int, eos_ids: tuple[int, ...]) -> Iterator[LogitsProcessor]:
    stored: Any = config  # tuples, whatever was given
    if config.no_repeat_ngram_size:
        yield NoRepeatNGram(config.no_repeat_ngram_size)
    if config.bad_words_ids:
        yield bad_words(stored.bad_words_ids, config.eos_token_ids)
    if eos_ids and config.min_new_tokens is None and config.min_length:  # else min_new_tokens takes precedence
        yield MinLength(eos_ids, config.min_length)
    if eos_ids and config.min_new_tokens:
        yield MinLength(eos_ids, prompt_length + config.min_new_tokens)


def _forced(config: GenerationConfig, prompt_length: int, eos_ids: tuple[int, ...]) -> Iterator[LogitsProcessor]:
    stored: Any = config  # tuples, whatever was given
    if config.forced_bos_token_id is not None:
        yield ForcedTokens((config.forced_bos_token_id,), 1)
    if config.forced_eos_token_ids:
        yield ForcedTokens(config.forced_eos_token_ids, config.longest(prompt_length) - 1)
    if config.remove_invalid_values:
        yield RemoveInvalid()
    if eos_ids and config.exponential_decay_length_penalty is not None:
        start, factor = stored.exponential_decay_length_penalty
        yield ExponentialDecay(eos_ids, prompt_length + start, factor)
    if config.suppress_tokens:
        yield SuppressTokens(stored.suppress_tokens)
    if config.begin_suppress_tokens:
        forced = prompt_length <= 1 and config.forced_bos_token_id is not None
        yield SuppressAtBegin(stored.begin_suppress_tokens, prompt_length + forced)


def _filters(config: GenerationConfig, size: int, index: int, least: int) -> Iterator[Filter]:
    if config.top_n_sigma:
        yield TopNSigma(config.top_n_sigma)
    if config.top_h is not None:
        yield TopH(config.top_h)
    if config.top_k and max(config.top_k, least) < size:
        yield TopK(max(config.top_k, least))
    if config.top_p is not None and config.top_p < 1.0:
        yield TopP(config.top_p, least)
    if config.min_p:
        yield MinP(config.min_p, least)
    if config.typical_p is not None and config.typical_p < 1.0:
        yield TypicalP(config.typical_p, least)
    if config.epsilon_cutoff:
        yield EpsilonCutoff(config.epsilon_cutoff, least)
    if config.eta_cutoff:
        yield EtaCutoff(config.eta_cutoff, least)
    if config.xtc_probability and config.xtc_threshold <= 0.5:
        yield Xtc(config.xtc_probability, config.xtc_threshold, make_generator(config.seed, index, stream=1))
