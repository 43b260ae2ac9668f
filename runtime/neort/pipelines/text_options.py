"""The arguments of a text-generation pipeline, at its making and in a call: what each is for, and how the two combine.

Options of generation are passed on as they are; everything else that transformers knows is a field here.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol, runtime_checkable

from ..arrays import Ids
from ..engine import Piece
from ..errors import ArgumentTypeError, ConfigError
from ..generation import AllowedTokensFunction, GenerationConfig, LogitsProcessor, StoppingCriterion
from ..prompts import Prompt
from ..wording import shortened
from .inputs import checked_batch_size

__all__ = ["DEFAULTS", "ReturnType", "Streamer", "TextOptions"]

DEFAULTS: dict[str, Any] = {"max_new_tokens": 256, "do_sample": True, "temperature": 0.7}
OF_SAMPLING = {"temperature"}  # among these
OF_TOKENIZER = {"add_special_tokens", "max_length", "padding", "truncation"}
BROUGHT = ("logits_processor", "stopping_criteria", "prefix_allowed_tokens_fn", "negative_prompt")
OF_CHATS = ("continue_final_message", "tools", "documents")


class ReturnType(enum.Enum):
    """What a record holds, by transformers' numbers."""

    TENSORS = 0
    NEW_TEXT = 1
    FULL_TEXT = 2


@runtime_checkable
class Streamer(Protocol):
    """transformers' streamers: a prompt's token ids [1, T], then each new one [1] as its text becomes certain."""

    def put(self, value: Ids) -> object: ...
    def end(self) -> object: ...


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """Arguments by transformers' names; None where they are not given. ``generation`` are those of generation."""

    return_type: ReturnType | None = None
    clean_up_tokenization_spaces: bool | None = None  # which transformers ignores for these tokenizers
    prefix: str | None = None
    handle_long_generation: str | None = None
    stop_sequence: str | Sequence[str] | None = None
    truncation: bool | str | None = None
    max_length: int | None = None
    skip_special_tokens: bool | None = None
    add_special_tokens: bool | None = None
    padding: bool | str | None = None  # which no prompt needs
    num_workers: int | None = None  # of a data loader, which there is none of
    batch_size: int | None = None
    generation_config: GenerationConfig | None = None
    logits_processor: Sequence[LogitsProcessor] | None = None
    stopping_criteria: Sequence[StoppingCriterion] | None = None
    prefix_allowed_tokens_fn: AllowedTokensFunction | None = None
    negative_prompt: Prompt | None = None
    streamer: Streamer | Callable[[Piece], object] | None = None
    generation: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> TextOptions:
        """Sort the arguments of a call. Raises ArgumentTypeError and ConfigError for those that make no sense."""
        rest = dict(arguments)
        _unpack_tokenizer_options(rest)
        for name in OF_CHATS:
            if rest.pop(name, None) is not None:
                raise ArgumentTypeError(f"{name} is for chats, and these models continue plain text: leave it out")
        rest["return_type"] = _return_type(rest)
        told = getattr(rest.get("generation_config"), "to_diff_dict", None)
        if callable(told):
            rest["generation_config"] = GenerationConfig.from_hf(told())
        names = {each.name for each in fields(cls)} - {"generation"}
        options = cls(
            **{name: rest.pop(name) for name in names & rest.keys()},
            generation=rest,
        )
        options._check()
        return options

    @property
    def brought(self) -> dict[str, Any]:
        """What `Model.generate` takes besides options."""
        return {name: getattr(self, name) for name in BROUGHT}

    def over(self, base: TextOptions) -> TextOptions:
        """These arguments, and those of ``base`` where there is none; a ``generation_config`` replaces its options."""
        if self.generation_config is not None:
            base = replace(base, generation={}, max_length=None)
        merged: dict[str, Any] = {}
        for each in fields(self):
            own = getattr(self, each.name)
            merged[each.name] = getattr(base, each.name) if own is None else own
        merged["generation"] = {**base.generation, **self.generation}
        return TextOptions(**merged)

    def config(self, bundled: GenerationConfig, in_file: Mapping[str, Any], prefix_length: int = 0) -> GenerationConfig:
        """Options of generation: the call's, on top of its ``generation_config``, on top of the bundle's.

        What none of them names gets the pipeline's defaults, those of sampling only where tokens are sampled.
        ``in_file`` is what the bundle's file says, ``bundled`` what it comes to. A number of new tokens comes before a
        length of the whole, wherever it is from; to the latter ``prefix_length`` is added.

        Raises what `GenerationConfig.replace` does.
        """
        given = self.named(in_file)
        added = {name: value for name, value in DEFAULTS.items() if name not in given}
        if given.get("max_length") is not None:
            added.pop("max_new_tokens", None)
        if not {**given, **added}["do_sample"]:
            added = {name: value for name, value in added.items() if name not in OF_SAMPLING}
        own = {**added, **self._own}
        for whole, new in (("max_length", "max_new_tokens"), ("min_length", "min_new_tokens")):
            if given.get(whole) is not None and given.get(new) is None:
                value = given[whole]
                own[whole] = value + prefix_length if isinstance(value, int) else value
        if "overflow" not in given and not self.asks_for_length(in_file):
            own["overflow"] = "stop"
        beneath = self._of_config
        if given.get("max_new_tokens") is not None:
            beneath.pop("max_length", None)
            own.pop("max_length", None)
        return bundled.replace(**beneath).replace(**own)

    def named(self, in_file: Mapping[str, Any]) -> dict[str, Any]:
        """The options that the call, its ``generation_config`` or the bundle's file names, as far as not None there."""
        return {name: value for name, value in in_file.items() if value is not None} | self._of_config | self._own

    def asks_for_length(self, in_file: Mapping[str, Any]) -> bool:
        """Whether anything but the pipeline's default says how long a text may become."""
        given = self.named(in_file)
        return given.get("max_new_tokens") is not None or given.get("max_length") is not None

    @property
    def _own(self) -> dict[str, Any]:
        """The call's options of generation."""
        own = {name: value for name, value in self.generation.items() if (name, value) != ("max_new_tokens", None)}
        if self.max_length is not None:
            own["max_length"] = self.max_length
        if self.stop_sequence is not None:
            own["stop_strings"] = self.stop_sequence
        return own

    @property
    def _of_config(self) -> dict[str, Any]:
        """The options that its ``generation_config`` names."""
        config = self.generation_config
        given = {} if config is None else {name: getattr(config, name) for name in config.given}
        return {name: value for name, value in given.items() if value is not None}

    def _check(self) -> None:
        checked_batch_size(self.batch_size)
        if self.handle_long_generation not in (None, "hole"):
            raise ConfigError(f'handle_long_generation is {shortened(self.handle_long_generation)}; use None or "hole"')
        if self.prefix is not None and not isinstance(self.prefix, str):
            raise ArgumentTypeError(f"prefix is text, not {type(self.prefix).__name__}")
        config = self.generation_config
        if config is not None and not isinstance(config, GenerationConfig):
            raise ArgumentTypeError(
                f"generation_config is a neort.GenerationConfig, or transformers' own, not {type(config).__name__}"
            )
        streamer = self.streamer
        if isinstance(streamer, type):
            raise ArgumentTypeError(f"streamer is the class {streamer.__name__}; give an object of it")
        if streamer is not None and not callable(streamer) and not isinstance(streamer, Streamer):
            raise ArgumentTypeError(
                f"streamer has put and end, as transformers' have, or is a function of a neort.Piece; "
                f"{type(streamer).__name__} is neither"
            )


def _unpack_tokenizer_options(rest: dict[str, Any]) -> None:
    """Move ``tokenizer_encode_kwargs`` to the others; its ``max_length`` is the prompt's, and not the text's."""
    inner = rest.pop("tokenizer_encode_kwargs", None) or {}
    if unknown := inner.keys() - OF_TOKENIZER:
        raise ArgumentTypeError(
            f"tokenizer_encode_kwargs has {shortened(min(unknown))}; known are {', '.join(sorted(OF_TOKENIZER))}"
        )
    if "max_length" in inner:
        raise ArgumentTypeError(
            "a prompt is truncated to the max_length of the call itself, or to the model's positions; leave max_length "
            "out of tokenizer_encode_kwargs"
        )
    rest.update({name: value for name, value in inner.items() if value is not None})


def _return_type(rest: dict[str, Any]) -> ReturnType | None:
    """What records are to hold, by ``return_type`` or by the three arguments that exclude each other."""
    full, tensors, text, kind = (
        rest.pop(name, None) for name in ("return_full_text", "return_tensors", "return_text", "return_type")
    )
    if kind is not None:
        try:
            return ReturnType(getattr(kind, "value", kind))
        except ValueError:
            raise ConfigError(f"return_type is {shortened(kind)}; use 0 (ids), 1 (new text) or 2 (full text)") from None
    for one, first, other, second in (
        (full, "return_full_text", text, "return_text"),
        (full, "return_full_text", tensors, "return_tensors"),
        (tensors, "return_tensors", text, "return_text"),
    ):
        if one is not None and other is not None:
            raise ConfigError(f"{first} and {second} exclude each other; give one of them")
    if tensors:
        return ReturnType.TENSORS
    return None if full is None else ReturnType.FULL_TEXT if full else ReturnType.NEW_TEXT
