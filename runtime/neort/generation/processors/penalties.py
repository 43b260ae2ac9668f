"""Processors against repetition: of tokens, and of n-grams."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...arrays import Ids, Logits
from .protocol import RULED_OUT

__all__ = ["NoRepeatNGram", "OccurrencePenalties", "RepetitionPenalty"]


@dataclass(frozen=True)
class RepetitionPenalty:
    """Divides the positive logits of every token seen so far by ``penalty``, and multiplies the negative ones.

    Keskar et al. 2019, "CTRL: A Conditional Transformer Language Model for Controllable Generation",
    arXiv:1909.05858; the sign rule is transformers'. A token counts once, however often it occurred.
    """

    penalty: float

    def __call__(self, ids: Ids, logits: Logits, /) -> Logits:
        """See `LogitsProcessor`."""
        factor, seen = np.float32(self.penalty), logits[ids]
        penalized: Logits = logits.copy()
        with np.errstate(over="ignore"):
            penalized[ids] = np.where(seen < 0, seen * factor, seen / factor)
        return penalized


@dataclass(frozen=True)
class OccurrencePenalties:
    """Lowers the logits of tokens in the new text: by ``frequency`` for each occurrence, and by ``presence`` once.

    OpenAI's and vLLM's frequency_penalty and presence_penalty; negative ones raise the logits. The prompt, which ends
    after ``prompt_length`` tokens, does not count.
    """

    prompt_length: int
    frequency: float
    presence: float

    def __call__(self, ids: Ids, logits: Logits, /) -> Logits:
        """See `LogitsProcessor`."""
        new = ids[self.prompt_length :]
        if not new.size:
            return logits
        counts = np.bincount(new)[new].astype(np.float32)
        penalized: Logits = logits.copy()
        penalized[new] = logits[new] - np.float32(self.frequency) * counts - np.float32(self.presence)
        return penalized


@dataclass(frozen=True)
class NoRepeatNGram:
    """Rules out the tokens that would repeat a sequence of ``size`` tokens, the prompt's included.

    transformers' NoRepeatNGramLogitsProcessor, which has it from fairseq. The text is searched anew each time, by
    whole arrays: 2,000 tokens take some microseconds, and any ids may come.
    """

    size: int

    def __call__(self, ids: Ids, logits: Logits, /) -> Logits:
        """See `LogitsProcessor`."""
        if len(ids) < self.size:
            return logits
        starts = np.arange(len(ids) - self.size + 1)
        for offset in range(self.size - 2, -1, -1):  # from the text's last token backwards
            starts = starts[ids[starts + offset] == ids[len(ids) - self.size + 1 + offset]]
        if not starts.size:
            return logits
        banned: Logits = logits.copy()
        banned[ids[starts + self.size - 1]] = RULED_OUT
        return banned
