"""Prompts' beginnings that are prefilled once."""

from __future__ import annotations

import os

from ..arrays import Ids
from ..errors import PrefixError
from ..generation import GenerationConfig
from ..kvcache import Pin, Prefix, PrefixFormat
from ..paths import given_path
from ..prompts import Prompt
from .requests import Brought
from .streaming import StreamingModel

__all__ = ["PrefixingModel"]


class PrefixingModel(StreamingModel):
    """A model that keeps prefixes."""

    def prefix(self, text: Prompt) -> Prefix:
        """Prefill text or token ids once, for all prompts that begin with them.

        Every prompt that begins with the same tokens starts from there, `generate` and `stream` need not be told; the
        logits are those of a prefill of the whole prompt, bit for bit. Only whole runs of the prefill (256 tokens
        each, 128 of large models) can be shared, but for a prompt that is the prefix itself: `Stats.reused_tokens` says
        how much it was.

        The prompts used last are kept in any case (see ``prefix_cache_bytes`` of `neort.load`); a Prefix stays, within
        that or beyond, until it is closed or dropped. It takes the memory that its tokens take in the cache.

        Raises what `generate` does: PromptError for a prefix that is empty, too long or holds unknown ids, LogitsError.
        """
        if isinstance(text, str):  # without what ends a text, for prompts go on after it
            text = [*self.tokenizer.prefix_ids, *self.tokenizer.encode(text, add_special_tokens=False)]
        ids, pin = self._encode(text), Pin()
        options = GenerationConfig(max_new_tokens=1)
        collector = self._collector(ids, options=options, brought=Brought())
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
