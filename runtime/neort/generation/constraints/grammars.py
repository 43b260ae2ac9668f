"""A model's grammars: compiled from the options, checked before anything runs, and kept for the next call.

Knows options and llguidance; knows nothing about logits.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

from ...errors import ConfigError, MissingExtraError
from ...tokenizer import Tokenizer
from ...wording import shortened
from .constraint import Constraint, is_dead_end, reason_of
from .limits import check_limits
from .schemas import with_inclusive_bounds
from .vocabulary import make_vocabulary

if TYPE_CHECKING:
    from ..config import GenerationConfig

__all__ = ["Grammars"]

KEPT = 8  # grammars, those used last, with what their lexers have worked out so far
# As Python's json.dumps writes. Blanks at will are what small models never come to an end of.
JSON_STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
ASCII = "dws"  # the classes of regular expressions that hold characters of ASCII alone, as in JSON Schema
# Of a state of the lexer, 1 to 2 KB each; the library's own limit takes half a gigabyte. The others of its limits hold
# as they are: some 15 ms of work for a token, 2,000 items in a row of the parser.
LEXER_STATES = 50_000


class Grammars:
    """Makes the constraints of one model's sequences."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        """``vocab_size`` is the model's. Loads nothing until the first constraint."""
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._compiled = functools.lru_cache(KEPT)(self._compile)

    def constraint(self, config: GenerationConfig, prompt_length: int) -> Constraint | None:
        """Return what holds a sequence to the grammar in ``config``; None where it has none.

        ``prompt_length`` is the number of tokens in the prompt.

        Raises ConfigError for a grammar that is malformed, too large, or allows no text; MissingExtraError where
        llguidance is not installed.
        """
        if config.constraint is None:
            return None
        name, value = config.constraint
        return Constraint(self._compiled(name, value), prompt_length, config.eos_token_ids, self._vocab_size, name)

    @functools.cached_property
    def _vocabulary(self) -> Any:
        return make_vocabulary(self._tokenizer, self._vocab_size)

    def _compile(self, name: str, value: str | tuple[str, ...]) -> Any:
        """The llguidance.LLMatcher of a grammar, which has met no token."""
        try:
            import llguidance
        except ImportError:
            raise MissingExtraError(
                f'{name} needs llguidance, which is missing: pip install "neort[grammar]"'
            ) from None
        try:
            check_limits(name, value)
            limits = llguidance.LLParserLimits(max_lexer_states=LEXER_STATES, verbose_errors=False)
            definition = _definition(name, value, llguidance)
            matcher = llguidance.LLMatcher(self._vocabulary, definition, log_level=0, limits=limits)
        except (ValueError, RecursionError) as error:  # JSON nested too deep, say
            raise ConfigError(f"{name}={shortened(value)} cannot be used: {error}") from None
        if matcher.is_error():
            hint = "; it is read as Lark, not as GBNF" if name == "grammar" and "::=" in value else ""
            raise ConfigError(f"{name}={shortened(value)} cannot be used: {_sentence(matcher.get_error())}{hint}")
        self._check_first(name, value, matcher)
        return matcher

    def _check_first(self, name: str, value: object, matcher: Any) -> None:
        """Raise ConfigError for a grammar that no first token fits, or that is too complex for one."""
        first = int.from_bytes(matcher.compute_bitmask(), "little") & ((1 << self._vocab_size) - 1)
        if matcher.is_error() and not is_dead_end(matcher):
            raise ConfigError(f"{name}={shortened(value)} cannot be used: {reason_of(matcher)}; make it simpler")
        if not first:
            allowed = "the empty text alone" if matcher.is_accepting() else "no text at all"
            raise ConfigError(
                f"{name}={shortened(value)} allows {allowed}: give one that some text fits, or leave it off."
            )


def _definition(name: str, value: Any, llguidance: Any) -> Any:
    """A grammar in llguidance's own form."""
    if name == "json_schema":
        return llguidance.LLMatcher.grammar_from_json_schema(with_inclusive_bounds(value), defaults=JSON_STYLE)
    if name != "grammar":
        regex = "|".join(map(_literal, value)) if name == "choice" else value
        value = f"start: /{llguidance.regex_to_lark(regex, ASCII)}/"
    return llguidance.LLMatcher.grammar_from_lark(value)


def _literal(text: str) -> str:
    """A regular expression that a text alone fits."""
    return re.sub(r"[\x00-\x7f]", lambda found: _escaped(found[0]), text)


def _escaped(character: str) -> str:
    return character if character.isalnum() else f"\\x{ord(character):02x}"


def _sentence(told: str) -> str:
    """What llguidance says about a grammar, in one line, without the places in a grammar of its own making."""
    told = re.sub(r"\n *\d+ \|.*", "", told, flags=re.DOTALL)
    told = told.rpartition("(in regex): ")[2]
    told = told.rpartition("\nerror: ")[2]
    told = " ".join(told.split())
    return told if len(told) <= 300 else f"{told[:297]}..."
