"""Options of what stands in the text of generated tokens, and of where stop strings end it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from ..options import Boolean, option

__all__ = ["TextArguments", "TextOptions"]


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """What the text of the new tokens holds, and where it ends; which tokens are generated is the same."""

    include_stop_str_in_output: bool = option(
        False,
        Boolean(),
        "the text holds the stop string that ended it, and the end-of-text token's where that has a text",
        required=True,
    )
    skip_special_tokens: bool = option(
        True, Boolean(), "leave special tokens out of the text, but for stop strings, which see them", required=True
    )
    stop_in_new_text: bool = option(
        False,
        Boolean(),
        "a stop string stands in the new text as a whole, and ends after min_new_tokens, as with servers",
        required=True,
    )


class TextArguments(TypedDict, total=False):
    """The types of `TextOptions`."""

    include_stop_str_in_output: bool
    skip_special_tokens: bool
    stop_in_new_text: bool
