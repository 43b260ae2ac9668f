"""What a runner can take at most: positions, slots and bytes of the cache, and whether a request fits.

Knows lengths and bytes; knows nothing about what runs or waits.
"""

from __future__ import annotations

from ..arrays import Ids
from ..bundle import ModelSpec
from ..errors import ConfigError, PromptError
from ..runner import ModelRunner
from .group import Group, Sequence

__all__ = ["Limits", "check_ids"]


class Limits:
    """The limits of one runner; any thread may ask them."""

    def __init__(self, runner: ModelRunner, max_cache_bytes: int | None) -> None:
        """``max_cache_bytes`` limits the cache; None means no limit."""
        self.runner = runner
        self.max_cache_bytes = max_cache_bytes

    def check(self, request: Group) -> None:
        """See `Scheduler.check`."""
        if request.checked:
            return
        for sequence in request.sequences:
            check_ids(sequence.prompt_ids, self.runner.spec)
            self._check_length(request, sequence)
        self._check_slots(request)
        length, count = len(request.prompt_ids), len(request.sequences)
        times = f", in {count} sequences," if count > 1 else ""
        self._check_bytes(
            self.positions(request), f"{length} prompt tokens and {request.config.max_new_tokens} new ones{times}"
        )
        request.checked = True

    def check_positions(self, positions: int) -> None:
        """Raises PromptError where so many tokens can never be scored: too few positions, or ``max_cache_bytes``."""
        limit = self.runner.spec.max_position_embeddings
        if positions > limit:
            raise PromptError(
                f"{positions} tokens are more than the model's {limit} positions; score the text in pieces"
            )
        self._check_bytes(positions, f"{positions} tokens")

    def positions(self, request: Group) -> int:
        """Positions of the cache that a request may come to use."""
        limit, new = self.runner.spec.max_position_embeddings, request.config.max_new_tokens
        return sum(min(len(sequence.prompt_ids) + new, limit) for sequence in request.sequences)

    def allow(self, positions: int) -> bool:
        """Whether ``max_cache_bytes`` allows so many positions at once."""
        return self.max_cache_bytes is None or positions * self.runner.bytes_per_position <= self.max_cache_bytes

    def too_long(self, request: Group) -> bool:
        """Whether a context has more tokens than there are positions."""
        limit = self.runner.spec.max_position_embeddings
        return any(len(sequence.context) > limit for sequence in request.sequences)

    def _check_length(self, request: Group, sequence: Sequence) -> None:
        """Raises PromptError where a prompt and what follows it need more positions than there are."""
        limit, config = self.runner.spec.max_position_embeddings, request.config
        length = len(sequence.prompt_ids)
        needed = length + config.max_new_tokens - 1  # the last new token is never fed
        if config.overflow == "error" and needed > limit:
            prompt = "prompt" if sequence is request.sequences[0] else "negative prompt"
            raise PromptError(
                f"the {prompt} has {length} tokens and max_new_tokens is {config.max_new_tokens}, which needs {needed} "
                f"positions; the model has {limit}. Shorten the prompt, lower max_new_tokens, or set overflow to "
                '"stop" or "truncate_left"'
            )

    def _check_slots(self, request: Group) -> None:
        """Raises ConfigError where a request needs more slots at once than there are."""
        count, most = len(request.sequences), self.runner.max_batch_size
        if count > most:
            beams = request.config.num_beams
            option = f"num_beams is {beams}" if beams > 1 else f"guidance_scale is {request.config.guidance_scale}"
            raise ConfigError(
                f"{option}, which needs {count} sequences at once; max_batch_size is {most}. Lower the first, or raise "
                "max_batch_size of neort.load"
            )

    def _check_bytes(self, positions: int, what: str) -> None:
        if not self.allow(positions):
            needed = positions * self.runner.bytes_per_position
            raise PromptError(
                f"{what} need {needed} bytes of cache; max_cache_bytes is {self.max_cache_bytes}. Shorten the prompt, "
                "lower max_new_tokens, or raise max_cache_bytes"
            )


def check_ids(token_ids: Ids, spec: ModelSpec) -> None:
    """Raises PromptError unless ``token_ids`` is a non-empty vector of ids of the model's vocabulary."""
    if len(token_ids) == 0:
        raise PromptError('the prompt is empty; give at least one token, for example "<|endoftext|>"')
    low, high = int(token_ids.min()), int(token_ids.max())
    if low < 0 or high >= spec.vocab_size:
        raise PromptError(
            f"token id {low if low < 0 else high} is outside the vocabulary of {spec.vocab_size} tokens "
            f"(0 to {spec.vocab_size - 1}); leave it out: it is of another tokenizer, or an added token that the model "
            "has no row for"
        )
