"""A loaded model: text in, text out."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Unpack, overload

import numpy as np

from .arrays import Floats, Ids, Logits
from .backend import DecoderSession
from .bundle import Bundle, ModelSpec
from .engine import BeamCollector, Collecting, Collector, Completion, Engine, Piece, check_ids
from .errors import ArgumentTypeError, ConfigError, PrefixError, PromptError
from .features import Pooling, Truncation, check_features, checked_layer, fitting, pooled
from .generation import (
    AllowedTokensFunction,
    GenerationConfig,
    GenerationOptions,
    Grammars,
    LogitsProcessor,
    PrefixAllowed,
    StoppingCriterion,
    TokenChooser,
    own_criteria,
    own_processors,
)
from .kvcache import Pin, Prefix, PrefixFormat
from .paths import given_path
from .prompts import Prompt, Prompts, as_ids, is_one_prompt
from .tokenizer import Tokenizer
from .wording import shortened

if TYPE_CHECKING:
    from .scoring import Choice, Normalization, Overflow, Perplexity, Score, TextScorer

if TYPE_CHECKING:
    from .asynchronous import AsyncStream

__all__ = ["Model"]


class Model:
    """A bundle, ready to generate; made by `neort.load`.

    Several threads may use one model: their sequences are decoded together.

    Attributes:
        bundle: the folder that it was loaded from.
        tokenizer: text to token ids and back.
        generation_config: the options of the bundle's generation_config.json, which hold where a call gives no others.
    """

    def __init__(
        self,
        bundle: Bundle,
        tokenizer: Tokenizer,
        generation_config: GenerationConfig,
        runner: DecoderSession,
        engine: Engine,
    ) -> None:
        """Put a model together from its parts, of which ``engine`` runs requests on ``runner``; see `neort.load`."""
        self.bundle = bundle
        self.tokenizer = tokenizer
        self.generation_config = generation_config
        self._session = runner
        self._engine = engine
        self._grammars = Grammars(tokenizer, bundle.spec.vocab_size)

    @property
    def spec(self) -> ModelSpec:
        """The model's dimensions."""
        return self.bundle.spec

    @property
    def num_threads(self) -> int:
        """Threads that one run of the model uses."""
        return self._session.num_threads

    def __reduce__(self) -> NoReturn:
        """Raise ArgumentTypeError: a model is loaded in every process, not sent there."""
        raise ArgumentTypeError(
            "a Model can be neither pickled nor copied; send the path of its bundle, and call neort.load there, with a "
            "folder for packed_weights if processes are to share the weights"
        )

    def __repr__(self) -> str:
        return f"<neort.Model {self.bundle.path.name}: {self.bundle.quantization}, {self.num_threads} threads>"

    @overload
    def generate(
        self,
        prompt: Prompt,
        config: GenerationConfig | None = None,
        *,
        logits_processor: Sequence[LogitsProcessor] | None = None,
        stopping_criteria: Sequence[StoppingCriterion] | None = None,
        prefix_allowed_tokens_fn: AllowedTokensFunction | None = None,
        negative_prompt: Prompt | None = None,
        num_return_sequences: int,
        **overrides: Unpack[GenerationOptions],
    ) -> list[Completion]: ...
    @overload
    def generate(
        self,
        prompt: Prompt,
        config: GenerationConfig | None = None,
        *,
        logits_processor: Sequence[LogitsProcessor] | None = None,
        stopping_criteria: Sequence[StoppingCriterion] | None = None,
        prefix_allowed_tokens_fn: AllowedTokensFunction | None = None,
        negative_prompt: Prompt | None = None,
        **overrides: Unpack[GenerationOptions],
    ) -> Completion: ...
    @overload
    def generate(
        self,
        prompt: Prompts,
        config: GenerationConfig | None = None,
        *,
        logits_processor: Sequence[LogitsProcessor] | None = None,
        stopping_criteria: Sequence[StoppingCriterion] | None = None,
        prefix_allowed_tokens_fn: AllowedTokensFunction | None = None,
        negative_prompt: Prompt | None = None,
        num_return_sequences: int = ...,
        **overrides: Unpack[GenerationOptions],
    ) -> list[Completion]: ...
    def generate(
        self,
        prompt: Any,
        config: GenerationConfig | None = None,
        *,
        logits_processor: Sequence[LogitsProcessor] | None = None,
        stopping_criteria: Sequence[StoppingCriterion] | None = None,
        prefix_allowed_tokens_fn: AllowedTokensFunction | None = None,
        negative_prompt: Prompt | None = None,
        **overrides: Any,
    ) -> Completion | list[Completion]:
        """Continue one prompt, or a list of prompts together.

        A prompt is text or a sequence of token ids. ``config`` replaces the bundle's generation_config.json,
        ``overrides`` are single options of GenerationConfig on top of either. ``logits_processor`` are functions of
        your own, at transformers' place among those that follow from the options; ``stopping_criteria`` are functions
        of ids that end a sequence by returning True. The first sequence of the call gets the objects themselves,
        further ones get copies. ``prefix_allowed_tokens_fn`` takes the number of the prompt and ids, and returns the
        ids of the tokens that may come next.
        ``negative_prompt`` is what ``guidance_scale`` leads away from.

        With ``num_beams`` the sequences of a prompt are the best ones that a beam search finds, best first; it needs as
        many slots at once (``max_batch_size`` of `neort.load`). Guidance needs two for each sequence.

        Returns a Completion for one prompt; a list of them for a list of prompts (prompt by prompt, its sequences side
        by side) and wherever ``num_return_sequences`` is given in the call, even as 1.

        Raises PromptError for a prompt that is empty, too long or holds unknown ids; ArgumentTypeError for an unknown
        option or a wrong type; ConfigError for a value out of range, for more beams than slots, for a grammar that
        cannot be used, or for one prompt of which ``config`` alone wants several sequences; LogitsError when the model
        yields NaN, or where the options leave no token; MissingExtraError for a grammar where neort[grammar] is not
        installed.
        """
        options = self._options(config, overrides)
        one = is_one_prompt(prompt)
        if one and "num_return_sequences" not in overrides:
            _refuse_several(options, "give it in the call itself, which then returns a list")
        negative_ids = self._negative(negative_prompt, options)
        count = 1 if options.num_beams > 1 else options.num_return_sequences
        collectors = [
            self._collector(
                ids,
                options,
                index,
                self._chooser(
                    ids,
                    options,
                    index,
                    own_processors(logits_processor, first=i == index == 0),
                    own_criteria(stopping_criteria, first=i == index == 0),
                    _prefix_allowed(prefix_allowed_tokens_fn, i),
                ),
                negative_ids,
            )
            for i, ids in enumerate([self._encode(prompt)] if one else self._encode_all(prompt))
            for index in range(count)
        ]
        self._run(collectors)
        completions = [completion for collector in collectors for completion in collector.completions()]
        return completions[0] if one and "num_return_sequences" not in overrides else completions

    def stream(
        self,
        prompt: Prompt,
        config: GenerationConfig | None = None,
        *,
        logits_processor: Sequence[LogitsProcessor] | None = None,
        stopping_criteria: Sequence[StoppingCriterion] | None = None,
        prefix_allowed_tokens_fn: AllowedTokensFunction | None = None,
        negative_prompt: Prompt | None = None,
        **overrides: Unpack[GenerationOptions],
    ) -> Generator[Piece, None, None]:
        """Continue one prompt and yield the text as it becomes certain; the joined pieces are `generate`'s text.

        Takes and raises what `generate` does, at the call itself; ``num_return_sequences`` and ``num_beams`` must be
        1. Dropping the iterator ends the sequence.
        """
        options = self._options(config, overrides)
        _refuse_several(options, "use generate, or several streams")
        if options.num_beams > 1:
            raise ConfigError(
                f"num_beams is {options.num_beams}, and no text of a beam search is certain before it ends; use "
                "generate, or num_beams=1"
            )
        ids = self._encode(prompt)
        chooser = self._chooser(
            ids,
            options,
            0,
            own_processors(logits_processor, first=True),
            own_criteria(stopping_criteria, first=True),
            _prefix_allowed(prefix_allowed_tokens_fn, 0),
        )
        negative_ids = self._negative(negative_prompt, options)
        collector = Collector(ids, options, 0, self.tokenizer, chooser, negative_ids, streamed=True)
        self._engine.check(collector.request)
        return self._pieces(collector)

    def astream(
        self,
        prompt: Prompt,
        config: GenerationConfig | None = None,
        *,
        logits_processor: Sequence[LogitsProcessor] | None = None,
        **overrides: Unpack[GenerationOptions],
    ) -> AsyncStream:
        """As `stream`, for asyncio: ``async for piece in model.astream(...)``.

        Takes and raises what `stream` does, at the call itself. Leaving the loop, by whatever way, ends the sequence;
        in the middle of a prompt after one run of the prefill (256 tokens) at most. Any number of streams run in one
        event loop, beside others in threads, and take no thread of their own.
        """
        from .asynchronous import AsyncStream

        return AsyncStream(self._engine, self._one(prompt, config, logits_processor, overrides, streamed=True))

    async def agenerate(
        self,
        prompt: Prompt,
        config: GenerationConfig | None = None,
        *,
        logits_processor: Sequence[LogitsProcessor] | None = None,
        **overrides: Unpack[GenerationOptions],
    ) -> Completion:
        """As `generate` for one prompt and one sequence, for asyncio; a cancelled task ends the sequence.

        Several prompts are decoded together all the same: ``await asyncio.gather(*map(model.agenerate, prompts))``.
        """
        from .asynchronous import completed

        return await completed(self._engine, self._one(prompt, config, logits_processor, overrides, streamed=False))

    def _one(
        self,
        prompt: Prompt,
        config: GenerationConfig | None,
        processors: Sequence[LogitsProcessor] | None,
        overrides: Any,
        *,
        streamed: bool,
    ) -> Collector:
        """What collects the only sequence of a prompt."""
        options = self._options(config, overrides)
        _refuse_several(options, "use generate, or several calls")
        ids = self._encode(prompt)
        chooser = self._chooser(ids, options, 0, own_processors(processors, first=True))
        return Collector(ids, options, 0, self.tokenizer, chooser, streamed=streamed)

    def logits(self, token_ids: Sequence[int] | Ids) -> Logits:
        """Next-token logits at every position of a sequence, float32 [T, V].

        Raises PromptError for ids outside the vocabulary or more tokens than positions, ArgumentTypeError for other
        types, BusyError when running sequences take all slots or the cache.
        """
        return self._engine.logits(as_ids(token_ids))

    @overload
    def score(self, text: str, context: str = ..., *, overflow: Overflow = ...) -> Score: ...
    @overload
    def score(self, text: list[str], context: str | list[str] = ..., *, overflow: Overflow = ...) -> list[Score]: ...
    def score(self, text: Any, context: Any = "", *, overflow: Overflow = "error") -> Score | list[Score]:
        """How probable a text is after a context: its log-likelihood, token by token.

        A list of texts gives a list, with one context for all or a list of contexts; texts are read together, longest
        first, and each gets the same bits alone. Context and text are encoded together, as lm-eval does it: white space
        at the context's end belongs to the text. Without a context the text follows the token that begins texts.

        ``overflow`` "truncate_left" drops the oldest tokens of a context that is too long, where "error" raises. While
        other sequences take all slots, scoring waits.

        Raises PromptError for a text without tokens, or one that does not fit; ArgumentTypeError for anything but str;
        ConfigError where there is no context, and no token that begins texts; LogitsError when the model yields NaN.
        """
        return self.scorer().score(text, context, overflow)

    def choose(
        self,
        context: str,
        options: Sequence[str],
        *,
        normalize: Normalization | None = None,
        overflow: Overflow = "error",
    ) -> Choice:
        """Which of several texts is the most probable one after a context, which is read once for all.

        ``normalize`` divides each log-likelihood by the option's length in "characters" (lm-eval's acc_norm), "bytes"
        or "tokens"; white space before the option does not count. Where options follow a space, each begins with it.

        Raises what `score` does.
        """
        return self.scorer().choose(context, options, normalize, overflow)

    @overload
    def perplexity(self, text: str) -> Perplexity: ...
    @overload
    def perplexity(self, text: list[str]) -> list[Perplexity]: ...
    def perplexity(self, text: Any) -> Perplexity | list[Perplexity]:
        """How well the model foretells a document of any length, or each of a list; see `neort.scoring.Perplexity`.

        By lm-eval's rolling windows: each token is foretold once, after the token that begins texts and what fits of
        the document before it; the last window is full. Raises PromptError for an empty text, and what `score` does.
        """
        return self.scorer().perplexity(text)

    def scorer(self, positions: int | None = None) -> TextScorer:
        """What `score`, `choose` and `perplexity` work with, for programs that prepare or batch their own texts.

        ``positions`` lowers how many tokens are read at once; None is all that the model has.
        """
        from .scoring import TextScorer

        return TextScorer(self.bundle, self.tokenizer, self._engine, positions)

    @overload
    def embed(
        self,
        texts: Prompt,
        layer: int = -1,
        pooling: Pooling = "mean",
        normalize: bool = False,
        *,
        truncation: Truncation | None = None,
    ) -> Floats: ...
    @overload
    def embed(
        self,
        texts: Prompts,
        layer: int = -1,
        pooling: Literal["mean", "last"] = "mean",
        normalize: bool = False,
        *,
        truncation: Truncation | None = None,
    ) -> Floats: ...
    @overload
    def embed(
        self,
        texts: Prompts,
        layer: int = -1,
        *,
        pooling: Literal["none"],
        normalize: bool = False,
        truncation: Truncation | None = None,
    ) -> list[Floats]: ...
    def embed(
        self,
        texts: Any,
        layer: int = -1,
        pooling: Pooling = "mean",
        normalize: bool = False,
        *,
        truncation: Truncation | None = None,
    ) -> Floats | list[Floats]:
        """Vectors for texts, from the hidden states of their tokens; each text's are the same in any company.

        A text is a str or token ids. ``layer`` counts as transformers' ``hidden_states``: 0 are the embeddings, i what
        layer i gives, and the last one (-1) is taken after the last normalization. ``pooling`` makes one vector of
        those of a text's tokens: their "mean", the "last", or "none" for all. ``normalize`` makes vectors one long.
        ``truncation`` cuts texts beyond the model's positions, at the "right" or the "left"; None refuses them.

        Returns float32 [K] for one text and [N, K] for a list of them; with "none" [T, K] or a list of such arrays.

        No logits are computed. The first call opens the graph once more, in the place of the one in memory, which takes
        as long as loading; sequences that run meanwhile wait for it and keep their bits.

        Raises PromptError for a text that is empty, too long or holds unknown ids; ConfigError and ArgumentTypeError
        for other arguments; BusyError as `logits` does; UnsupportedError for the last layer of a quantized bundle whose
        lm_head is not tied to its embedding.
        """
        check_features(pooling, normalize, truncation)
        index = checked_layer(layer, self.spec.num_layers)
        one = is_one_prompt(texts)
        ids = [self._encode(texts)] if one else self._encode_all(texts)
        names = ["the text"] if one else [f"text {i} of the list" for i in range(len(ids))]
        positions = self.spec.max_position_embeddings
        ids = [fitting(each, positions, truncation, name) for each, name in zip(ids, names, strict=True)]
        for each in ids:
            check_ids(each, self.spec)
        vectors = [pooled(self._hidden_states(each, index), pooling, normalize=bool(normalize)) for each in ids]
        return vectors[0] if one else vectors if pooling == "none" else np.stack(vectors)

    def _hidden_states(self, ids: Ids, layer: int) -> Floats:
        """Hidden states of one sequence, float32 [T, K], chunk by chunk in a slot that is lent."""
        step = self._engine.core.prefill_chunk

        def run(slot: int, wanted: Callable[[], bool]) -> Floats:
            starts = range(0, len(ids), step)
            chunks = [
                self._session.hidden_states(slot, ids[start : start + step], start, layer)
                for start in starts
                if wanted()
            ]
            return np.concatenate(chunks) if chunks else np.empty((0, self.spec.hidden_size), np.float32)

        return self._engine.lend_slot(len(ids), run)

    def prefix(self, text: Prompt) -> Prefix:
        """Prefill text or token ids once, for all prompts that begin with them.

        Every prompt that begins with the same tokens starts from there, `generate` and `stream` need not be told; the
        logits are those of a prefill of the whole prompt, bit for bit. Only whole runs of the prefill (256 tokens each)
        can be shared, but for a prompt that is the prefix itself: `Stats.reused_tokens` says how much it was.

        The prompts used last are kept in any case (see ``prefix_cache_bytes`` of `neort.load`); a Prefix stays, within
        that or beyond, until it is closed or dropped. It takes the memory that its tokens take in the cache.

        Raises what `generate` does: PromptError for a prefix that is empty, too long or holds unknown ids, LogitsError.
        """
        if isinstance(text, str):  # without what ends a text, for prompts go on after it
            text = [*self.tokenizer.prefix_ids, *self.tokenizer.encode(text, add_special_tokens=False)]
        ids, pin = self._encode(text), Pin()
        options = GenerationConfig(max_new_tokens=1)
        collector = self._collector(ids, options, 0, self._chooser(ids, options, 0))
        collector.request.pin = pin
        try:
            self._run([collector])
            collector.completions()  # raises the error, if there was one
        except BaseException:
            self._engine.release(pin)
            raise
        return self._pinned(ids, pin)

    def load_prefix(self, file: str | os.PathLike[str]) -> Prefix:
        """A prefix that `Prefix.save` wrote, pinned as that of `prefix` is.

        The prefill's bits depend on the kind of processor and on onnxruntime's release. A file from another machine
        serves as well up to rounding, but only one from the same kind gives what a prefill would, bit for bit.

        The file must be of the same model. Nothing in it is run, and damage is found; but prompts that begin with its
        tokens are answered from the numbers in it, so it must come from someone who may decide what the model says.

        Raises PrefixError for a file that is missing, truncated, damaged, of another model, dtype or format version.
        """
        stored = self._prefix_format().load(given_path(file, "the prefix file", PrefixError))
        pin = Pin()
        self._engine.pin(
            pin,
            stored.token_ids,
            lambda start, stop: {name: rows[:, start:stop].copy() for name, rows in stored.rows.items()},
            stored.logits,
        )
        return self._pinned(stored.token_ids, pin)

    def _pinned(self, ids: Ids, pin: Pin) -> Prefix:
        return Prefix(ids, pin, self._prefix_format(), self._engine.release)

    def _prefix_format(self) -> PrefixFormat:
        return PrefixFormat(
            self.spec, self._session.row_types, self._session.model_hash, self._engine.core.prefill_chunk
        )

    def _run(self, collectors: Sequence[Collecting]) -> None:
        """Take requests from their first step to their last."""
        with _Submitted(self._engine, collectors):
            for collector in collectors:
                self._engine.next_event(collector.events)

    def _options(self, config: GenerationConfig | None, overrides: Any) -> GenerationConfig:
        if config is not None and not isinstance(config, GenerationConfig):
            raise ArgumentTypeError(f"config is a neort.GenerationConfig, not {type(config).__name__}")
        base = config or self.generation_config
        if base.eos_token_id is None and self.generation_config.eos_token_id is not None:
            base = base.replace(eos_token_id=self.generation_config.eos_token_id)
        return base.replace(**overrides)

    def _encode(self, prompt: Any) -> Ids:
        return np.array(self.tokenizer.encode(prompt), np.int64) if isinstance(prompt, str) else as_ids(prompt)

    def _encode_all(self, prompts: Prompts) -> list[Ids]:
        """The token ids of each prompt in a list; an error says which prompt it is about."""
        encoded = []
        for i, prompt in enumerate(prompts):
            try:
                encoded.append(self._encode(prompt))
            except (ArgumentTypeError, PromptError) as error:
                raise type(error)(f"prompt {i} of the list: {error}") from None
        return encoded

    def _negative(self, prompt: Prompt | None, options: GenerationConfig) -> Ids | None:
        """The negative prompt's token ids. Raises ConfigError for one that has no effect."""
        if prompt is None:
            return None
        if not options.guides:
            raise ConfigError(
                f"negative_prompt has no effect with guidance_scale={options.guidance_scale}: set guidance_scale above "
                "1 to lead away from it, or leave it out"
            )
        return self._encode(prompt)

    def _collector(
        self,
        ids: Ids,
        options: GenerationConfig,
        index: int,
        chooser: TokenChooser,
        negative_ids: Ids | None = None,
    ) -> Collector | BeamCollector:
        if options.num_beams > 1:
            return BeamCollector(ids, options, self.tokenizer, chooser)
        return Collector(ids, options, index, self.tokenizer, chooser, negative_ids)

    def _chooser(
        self,
        ids: Ids,
        options: GenerationConfig,
        index: int,
        processors: Sequence[LogitsProcessor] = (),
        criteria: Sequence[StoppingCriterion] = (),
        prefix_allowed: PrefixAllowed | None = None,
    ) -> TokenChooser:
        return TokenChooser.from_config(
            options,
            len(ids),
            index,
            processors=processors,
            prefix_allowed=prefix_allowed,
            tokenizer=self.tokenizer,
            criteria=criteria,
            constraint=self._grammars.constraint(options, len(ids)),
        )

    def _pieces(self, collector: Collector) -> Generator[Piece, None, None]:
        with _Submitted(self._engine, [collector]):
            while (piece := self._engine.next_event(collector.events)) is not None:
                yield piece
        collector.completion()  # raises the error, if there was one


class _Submitted:
    """Context in which requests are in the engine; on leaving, by whatever way, none of them stays there.

    Nor where the context is dropped without having been left, as Ctrl-C may have it between two lines.
    """

    def __init__(self, engine: Engine, collectors: Sequence[Collecting]) -> None:
        self._engine, self._collectors = engine, collectors

    def __enter__(self) -> None:
        for collector in self._collectors:
            self._engine.check(collector.request)
        for collector in self._collectors:
            self._engine.submit(collector.request)

    def __exit__(self, *_: object) -> None:
        self.__del__()

    def __del__(self) -> None:
        for collector in self._collectors:
            self._engine.cancel(collector.request)


def _prefix_allowed(function: AllowedTokensFunction | None, prompt_index: int) -> PrefixAllowed | None:
    """What rules tokens out by the caller's function. Raises ArgumentTypeError for what cannot be called."""
    if function is None:
        return None
    if not callable(function):
        raise ArgumentTypeError(
            f"prefix_allowed_tokens_fn is {shortened(function)}; it takes a function of a prompt's number and ids"
        )
    return PrefixAllowed(function, prompt_index)


def _refuse_several(options: GenerationConfig, remedy: str) -> None:
    """Raise ConfigError for more than one sequence where one is returned."""
    if options.num_return_sequences != 1:
        raise ConfigError(
            f"one prompt gives one sequence here, and num_return_sequences is {options.num_return_sequences}; {remedy}"
        )
