"""The pipeline "text-generation": prompts in, records with their continuations out, as transformers 5.24 has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import ConfigError, PromptError
from ..generation import GenerationConfig
from ..model import Model
from .inputs import run_inputs
from .text_options import ReturnType, Streamer, TextOptions
from .tokenization import model_max_length, truncated

__all__ = ["TextGenerationPipeline"]

Record = dict[str, Any]


@dataclass(frozen=True)
class _Prompt:
    """A text and its tokens, with the prefix's; ``begun`` of these are the model's own, where the text is empty."""

    text: str
    ids: list[int]
    begun: int = 0


class TextGenerationPipeline:
    """Continues texts; made by `neort.pipeline`.

    Attributes:
        model: the neort.Model that it runs.
        tokenizer: the model's tokenizer.
    """

    task = "text-generation"

    def __init__(self, model: Model, **parameters: Any) -> None:
        """``parameters`` are those of a call, for all calls that do not give them.

        Raises ArgumentTypeError and ConfigError as a call does.
        """
        self.model = model
        self.tokenizer = model.tokenizer
        self._in_file = model.bundle.read_json("generation_config.json")
        self._parameters = TextOptions.of(parameters)
        self._config(self._parameters)

    def __call__(self, text_inputs: Any, **parameters: Any) -> Any:
        """Continue one text, or several.

        Parameters are transformers' own: ``return_full_text`` (True), ``return_tensors``, ``return_text``, ``prefix``,
        ``stop_sequence``, ``handle_long_generation`` ("hole" drops the beginning of a long prompt), ``truncation``,
        ``add_special_tokens``, ``skip_special_tokens`` (True), ``batch_size``, ``streamer``, ``generation_config``,
        every option of `neort.GenerationConfig`, and what else `Model.generate` takes.

        Where neither these, nor a ``generation_config``, nor the bundle's generation_config.json names them, 256 new
        tokens are drawn at temperature 0.7, as transformers does; a text may then end earlier at the last of the
        model's positions.

        Returns a list of records for a str, one per sequence, a list of such lists for a list, and for any other
        iterable an iterator, which reads ``batch_size`` texts (1) at a time. A record is {"generated_text": ...}, for
        ``return_tensors``, {"generated_token_ids": ...}, a list of the prompt's ids and the new ones.

        ``streamer`` is an object with transformers' ``put`` and ``end``, or a function that gets each neort.Piece.

        Raises what `Model.generate` does; PromptError for a chat, since these models have no template for it.
        """
        options = TextOptions.of(parameters).over(self._parameters)
        self._config(options)
        return run_inputs(text_inputs, lambda texts, name: self._run(texts, name, options), options.batch_size)

    def _config(self, options: TextOptions) -> GenerationConfig:
        """Options of generation. Raises ArgumentTypeError or ConfigError for those that are none, or odd."""
        prefix = self.tokenizer.encode(options.prefix or "", add_special_tokens=bool(options.add_special_tokens))
        config = options.config(self.model.generation_config, self._in_file, len(prefix))
        for name, count in (("num_beams", config.num_beams), ("num_return_sequences", config.num_return_sequences)):
            if options.streamer is not None and count > 1:
                raise ConfigError(
                    f"a streamer gets one sequence as it comes, and {name} is {count}; leave out streamer, or set "
                    f"{name} to 1"
                )
        return config

    def _run(self, texts: Sequence[str], name: str, options: TextOptions) -> list[list[Record]]:
        """The records of each text."""
        config = self._config(options)
        prompts = [self._fitted(self._encoded(text, options), name, config, options) for text in texts]
        if options.streamer is not None:
            return [[self._record(prompt, self._streamed(prompt.ids, config, options), options)] for prompt in prompts]
        completions = self.model.generate([prompt.ids for prompt in prompts], config, **options.brought)
        count = len(completions) // len(prompts)
        return [
            [self._record(prompt, each.token_ids, options) for each in completions[i * count : (i + 1) * count]]
            for i, prompt in enumerate(prompts)
        ]

    def _encoded(self, text: str, options: TextOptions) -> _Prompt:
        """A text's tokens after the prefix's; where there is none, the model's own first token, as transformers has it.

        Raises PromptError where the model has none, either.
        """
        special = options.add_special_tokens is not False
        ids = self.tokenizer.encode((options.prefix or "") + text, add_special_tokens=special)
        length = model_max_length(self.model) if options.max_length is None else options.max_length
        ids = truncated(ids, options.truncation, length)
        if ids:
            return _Prompt(text, ids)
        begin = self._in_file.get("bos_token_id", self.model.bundle.read_json("config.json").get("bos_token_id"))
        if not isinstance(begin, int):
            raise PromptError("the prompt is empty, and the model has no bos_token_id to begin with; give some text")
        return _Prompt(text, [begin], begun=1)

    def _fitted(self, prompt: _Prompt, name: str, config: GenerationConfig, options: TextOptions) -> _Prompt:
        """The prompt without its beginning, where "hole" asks for room and there is none.

        Raises ConfigError where more new tokens are wanted than there can be, PromptError where nobody asked for any
        number of them and there is room for none.
        """
        if options.handle_long_generation is None:
            if config.overflow == "stop" and not options.asks_for_length(self._in_file):
                self._check_room(prompt, name)
            return prompt
        longest = model_max_length(self.model)
        room = longest - config.for_prompt(len(prompt.ids)).max_new_tokens
        if len(prompt.ids) <= room:
            return prompt
        if room <= 0:
            raise ConfigError(
                f"{longest - room} new tokens leave no room for a prompt among {longest}; lower max_new_tokens"
            )
        return replace(prompt, ids=prompt.ids[-room:])

    def _check_room(self, prompt: _Prompt, name: str) -> None:
        positions = self.model.spec.max_position_embeddings
        if len(prompt.ids) > positions:
            raise PromptError(
                f"{name} has {len(prompt.ids)} tokens, and the model has {positions} positions; shorten it, or give "
                'truncation=True or handle_long_generation="hole"'
            )

    def _streamed(self, ids: list[int], config: GenerationConfig, options: TextOptions) -> list[int]:
        """The new token ids of one prompt, which the streamer gets as they come."""
        pieces = self.model.stream(ids, config, **options.brought)
        streamer, tokens = options.streamer, list[int]()
        if isinstance(streamer, Streamer):
            streamer.put(np.array([ids], np.int64))
        for piece in pieces:
            tokens += piece.token_ids
            if isinstance(streamer, Streamer):
                for token in piece.token_ids:
                    streamer.put(np.array([token], np.int64))
            elif streamer is not None:
                streamer(piece)
        if isinstance(streamer, Streamer):
            streamer.end()
        return tokens

    def _record(self, prompt: _Prompt, new_ids: Sequence[int], options: TextOptions) -> Record:
        """What one sequence becomes."""
        if options.return_type is ReturnType.TENSORS:
            return {"generated_token_ids": [*prompt.ids, *new_ids]}
        shown = [*prompt.ids[: prompt.begun], *new_ids]
        text = self.tokenizer.decode(shown, skip_special_tokens=options.skip_special_tokens is not False)
        return {"generated_text": text if options.return_type is ReturnType.NEW_TEXT else prompt.text + text}
