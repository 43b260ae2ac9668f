"""A loaded model: text in, text out."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from .backend import DecoderSession
from .bundle import WEIGHTS, Bundle, ModelSpec, bundled_path
from .engine import PREFILL_CHUNK, Collector, Completion, Engine, Piece
from .errors import BundleError, PromptError
from .generation import GenerationConfig
from .kvcache import CACHE_TYPES, CacheType, Pin, Prefix, PrefixCache, PrefixFormat
from .speculative import PROMPT_LOOKUP, Drafter, ModelDrafter, PromptLookup, Speculator, draft_cost, verification_cost
from .tokenizer import Tokenizer

__all__ = ["Model", "load"]

LEAST_PREFIX_BYTES = 64 << 20

Ids = NDArray[np.int64]
Prompt = str | Sequence[int] | NDArray[np.integer[Any]]


class Model:
    """A bundle, ready to generate; made by `neort.load`.

    Several threads may use one model: their sequences are decoded together.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        num_threads: int | None = None,
        max_batch_size: int = 8,
        packed_weights: Path | None = None,
        draft: Bundle | Literal["prompt-lookup"] | None = None,
        max_cache_bytes: int | None = None,
        prefix_cache_bytes: int | None = None,
        kv_cache: CacheType = "fp32",
    ) -> None:
        self.bundle = bundle
        self.tokenizer = Tokenizer.from_file(bundle.file("tokenizer.json"))
        self.generation_config = GenerationConfig.from_hf(bundle.read_json("generation_config.json"))
        self._session = DecoderSession(
            bundle,
            num_threads=num_threads,
            max_batch_size=max_batch_size,
            packed_weights=packed_weights,
            kv_cache=kv_cache,
        )
        budget = _default_prefix_bytes(bundle) if prefix_cache_bytes is None else prefix_cache_bytes
        self._prefixes = PrefixCache(self._session, budget=budget, block_size=PREFILL_CHUNK)
        self._engine = Engine(
            self._session,
            max_cache_bytes=max_cache_bytes,
            speculate=self._speculate(draft) if draft is not None else None,
            prefixes=self._prefixes,
        )

    @property
    def spec(self) -> ModelSpec:
        """The model's dimensions."""
        return self.bundle.spec

    @property
    def num_threads(self) -> int:
        """Threads that one run of the model uses."""
        return self._session.num_threads

    def __repr__(self) -> str:
        return f"<neort.Model {self.bundle.path.name}: {self.bundle.quantization}, {self.num_threads} threads>"

    @overload
    def generate(self, prompt: str, config: GenerationConfig | None = None, **overrides: Any) -> Completion: ...
    @overload
    def generate(
        self, prompt: Sequence[Prompt], config: GenerationConfig | None = None, **overrides: Any
    ) -> list[Completion]: ...
    @overload
    def generate(
        self, prompt: Sequence[int] | Ids, config: GenerationConfig | None = None, **overrides: Any
    ) -> Completion: ...
    def generate(
        self, prompt: Any, config: GenerationConfig | None = None, **overrides: Any
    ) -> Completion | list[Completion]:
        """Continue one prompt, or a list of prompts together.

        A prompt is text or a sequence of token ids. ``config`` replaces the bundle's generation_config.json,
        ``overrides`` are single options of GenerationConfig on top of either.

        Returns a Completion for one prompt, a list of them for a list or for ``num_return_sequences`` above 1
        (prompt by prompt, its sequences side by side).

        Raises PromptError for a prompt that is empty, too long or holds unknown ids; TypeError for an unknown
        option or a wrong type; ConfigError for a value out of range; LogitsError when the model yields NaN.
        """
        options = self._options(config, overrides)
        one = isinstance(prompt, str) or _is_ids(prompt)
        collectors = [
            self._collector(ids, options, index)
            for ids in [self._encode(p) for p in ([prompt] if one else prompt)]
            for index in range(options.num_return_sequences)
        ]
        self._run(collectors)
        completions = [collector.completion() for collector in collectors]
        return completions[0] if one and len(completions) == 1 else completions

    def stream(
        self, prompt: Prompt, config: GenerationConfig | None = None, **overrides: Any
    ) -> Generator[Piece, None, None]:
        """Continue one prompt and yield the text as it becomes certain; the joined pieces are `generate`'s text.

        Takes and raises what `generate` does, at the call itself; ``num_return_sequences`` must be 1. Dropping the
        iterator ends the sequence.
        """
        options = self._options(config, overrides)
        if options.num_return_sequences != 1:
            raise ValueError(
                f"stream yields one sequence, num_return_sequences is {options.num_return_sequences}; "
                "use generate, or several streams"
            )
        collector = self._collector(self._encode(prompt), options, 0)
        self._engine.check(collector.request)
        return self._pieces(collector)

    def logits(self, token_ids: Sequence[int] | Ids) -> NDArray[np.float32]:
        """Next-token logits at every position of a sequence, float32 [T, V].

        Raises PromptError for ids outside the vocabulary or more tokens than positions, TypeError for other types.
        """
        return self._engine.logits(_as_ids(token_ids))

    def prefix(self, text: Prompt) -> Prefix:
        """Prefill text or token ids once, for all prompts that begin with them.

        Every prompt that begins with the same tokens starts from there, `generate` and `stream` need not be told; the
        logits are those of a prefill of the whole prompt, bit for bit. Only whole runs of the prefill (256 tokens each)
        can be shared, but for a prompt that is the prefix itself: `Stats.reused_tokens` says how much it was.

        The prompts used last are kept in any case (see ``prefix_cache_bytes`` of `neort.load`); a Prefix stays, within
        that or beyond, until it is closed or dropped. It takes the memory that its tokens take in the cache.

        Raises what `generate` does: PromptError for a prefix that is empty, too long or holds unknown ids, LogitsError.
        """
        ids, pin = self._encode(text), Pin()
        collector = self._collector(ids, GenerationConfig(max_new_tokens=1), 0)
        collector.request.pin = pin
        try:
            self._run([collector])
            collector.completion()  # raises the error, if there was one
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
        stored = self._prefix_format().load(Path(file).expanduser())
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
        return PrefixFormat(self.spec, self._session.row_types, self._session.model_hash, PREFILL_CHUNK)

    def _run(self, collectors: list[Collector]) -> None:
        """Take requests from their first step to their last."""
        with _Submitted(self._engine, collectors):
            for collector in collectors:
                while not collector.request.done:
                    self._engine.advance(collector.request)

    def _speculate(self, draft: Bundle | Literal["prompt-lookup"]) -> Callable[[], Speculator]:
        """What makes a sequence's speculator. Raises BundleError for a draft model with another tokenizer."""
        drafter: Drafter = self._draft_model(draft) if isinstance(draft, Bundle) else PromptLookup()
        cost = verification_cost(self.bundle.quantization, _weight_bytes(self.bundle))
        return lambda: Speculator(drafter, cost)

    def _draft_model(self, draft: Bundle) -> ModelDrafter:
        """A smaller model as a drafter. Raises BundleError where its tokens are others."""
        tokenizer, spec = Tokenizer.from_file(draft.file("tokenizer.json")), draft.spec
        different = [
            i for i in range(self.spec.vocab_size) if tokenizer.token_bytes(i) != self.tokenizer.token_bytes(i)
        ]
        if spec.vocab_size != self.spec.vocab_size or different:
            what = f"token {different[0]}" if different else f"{spec.vocab_size} tokens, not {self.spec.vocab_size}"
            raise BundleError(
                f"{draft.path} cannot draft for {self.bundle.path}: its vocabulary is another one ({what}); "
                "a draft model shares the tokenizer"
            )
        session = DecoderSession(draft, num_threads=self.num_threads, max_batch_size=1)
        return ModelDrafter(session, draft_cost(_weight_bytes(draft), _weight_bytes(self.bundle)))

    def _options(self, config: GenerationConfig | None, overrides: dict[str, Any]) -> GenerationConfig:
        if config is not None and not isinstance(config, GenerationConfig):
            raise TypeError(f"config is a neort.GenerationConfig, not {type(config).__name__}")
        base = config or self.generation_config
        if base.eos_token_id is None and self.generation_config.eos_token_id is not None:
            base = base.replace(eos_token_id=self.generation_config.eos_token_id)
        return base.replace(**overrides)

    def _encode(self, prompt: Any) -> Ids:
        return np.array(self.tokenizer.encode(prompt), np.int64) if isinstance(prompt, str) else _as_ids(prompt)

    def _collector(self, ids: Ids, options: GenerationConfig, index: int) -> Collector:
        return Collector(ids, options, index, self.tokenizer.token_bytes)

    def _pieces(self, collector: Collector) -> Generator[Piece, None, None]:
        with _Submitted(self._engine, [collector]):
            while not collector.request.done:
                self._engine.advance(collector.request)
                while collector.pieces:
                    yield collector.pieces.popleft()
            yield from collector.drain()


def load(
    bundle: str | os.PathLike[str] | None = None,
    *,
    num_threads: int | None = None,
    max_batch_size: int = 8,
    check_weights: bool = False,
    packed_weights: str | os.PathLike[str] | None = None,
    draft: str | os.PathLike[str] | None = None,
    max_cache_bytes: int | None = None,
    prefix_cache_bytes: int | None = None,
    kv_cache: CacheType = "fp32",
) -> Model:
    """Load a bundle folder, or the bundled demonstration model.

    ``num_threads`` defaults to the CPUs that the process may use (affinity and container quota);
    ``max_batch_size`` is how many sequences are decoded together, further ones wait; ``check_weights`` also compares
    the weights with their hash in the manifest, about a second per gigabyte.

    ``packed_weights`` is a folder for the weights as onnxruntime's kernels want them. The first load saves them there,
    twice the size of the bundle; later ones map them into memory, which is faster and shares them among processes. Its
    files are trusted: it must be a folder that nobody else can write to.

    ``draft`` proposes tokens, of which the model checks several in one run: "prompt-lookup" copies from the text
    itself, the folder of a smaller model's bundle with the same tokenizer lets that model propose. The tokens stay
    those of plain decoding, up to rounding in near ties; a sequence that is alone in the engine gets them faster.

    ``max_cache_bytes`` limits the key-value cache: requests wait until the running ones leave room, and one that alone
    needs more raises PromptError. None means no limit.

    ``prefix_cache_bytes`` limits what is kept of prompts that were prefilled, so that later ones with the same
    beginning start from there; the least recently used goes first. It comes on top of ``max_cache_bytes``, which is for
    sequences that run: together they bound the cache, but for prefixes that `Model.prefix` pins, which count and stay.
    0 keeps nothing else; None means a quarter of the weights, 64 MiB at least.

    ``kv_cache`` "int8" takes a quarter of the memory for keys and values, with scales that were calibrated at the
    export. Attention then has the same bits however a text is cut into runs, so that speculation gives plain decoding's
    tokens exactly and any common beginning of two prompts can be reused. It is slower in prefill.

    Raises BundleError for a bundle that is missing, damaged, tampered with or of another format version, for an
    onnxruntime that is too old for it, or when packed weights cannot be saved; TokenizerError for a tokenizer that
    cannot be reproduced exactly.
    """
    for name, value in (
        ("num_threads", num_threads),
        ("max_batch_size", max_batch_size),
        ("max_cache_bytes", max_cache_bytes),
        ("prefix_cache_bytes", prefix_cache_bytes),
    ):
        least = 0 if name == "prefix_cache_bytes" else 1
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise TypeError(f"{name} is an integer, not {type(value).__name__}")
        if value is not None and value < least:
            raise ValueError(f"{name} is {value}; it must be at least {least}")
    if kv_cache not in CACHE_TYPES:
        raise ValueError(f"kv_cache is {kv_cache!r}; it must be one of {', '.join(CACHE_TYPES)}")
    opened = Bundle(bundled_path() if bundle is None else bundle, check_weights=check_weights)
    folder = None if packed_weights is None else Path(packed_weights).expanduser()
    return Model(
        opened,
        num_threads=num_threads,
        max_batch_size=max_batch_size,
        packed_weights=folder,
        draft=PROMPT_LOOKUP if draft == PROMPT_LOOKUP else None if draft is None else Bundle(draft),
        max_cache_bytes=max_cache_bytes,
        prefix_cache_bytes=prefix_cache_bytes,
        kv_cache=kv_cache,
    )


class _Submitted:
    """Context in which requests are in the engine; on leaving, by whatever way, none of them stays there."""

    def __init__(self, engine: Engine, collectors: list[Collector]) -> None:
        self._engine, self._collectors = engine, collectors

    def __enter__(self) -> None:
        for collector in self._collectors:
            self._engine.check(collector.request)
        for collector in self._collectors:
            self._engine.submit(collector.request)

    def __exit__(self, *_: object) -> None:
        for collector in self._collectors:
            self._engine.cancel(collector.request)


def _weight_bytes(bundle: Bundle) -> int:
    return bundle.file(WEIGHTS).stat().st_size


def _default_prefix_bytes(bundle: Bundle) -> int:
    """What is kept of prompts: about a thousand positions of a large model, and what a small one does not notice."""
    return max(LEAST_PREFIX_BYTES, _weight_bytes(bundle) // 4)


def _is_ids(prompt: Any) -> bool:
    """Whether a prompt is one sequence of token ids rather than a list of prompts."""
    if isinstance(prompt, np.ndarray):
        if prompt.ndim > 1 and len(prompt) == 0:
            raise PromptError("the list of prompts is empty; give at least one prompt")
        return prompt.ndim <= 1
    if not isinstance(prompt, Sequence) or isinstance(prompt, (bytes, bytearray, memoryview)):
        raise TypeError(f"a prompt is text, token ids, or a list of these, not {type(prompt).__name__}")
    if len(prompt) == 0:
        raise PromptError("the list of prompts is empty; give at least one prompt")
    return isinstance(prompt[0], (int, np.integer))


def _as_ids(token_ids: Any) -> Ids:
    """Token ids as an int64 vector [T]. Raises TypeError for anything but integers."""
    if isinstance(token_ids, (str, bytes, bytearray)) or not isinstance(token_ids, (Sequence, np.ndarray)):
        raise TypeError(f"token ids are a sequence of integers, not {type(token_ids).__name__}")
    if not isinstance(token_ids, np.ndarray) and any(isinstance(i, (bool, np.bool_)) for i in token_ids):
        raise TypeError("token ids are integers, not booleans")
    try:
        array = np.asarray(token_ids)
    except ValueError:  # nested unevenly
        raise TypeError("token ids are a flat sequence of integers, not sequences of different lengths") from None
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise TypeError(f"token ids are a flat sequence of integers, not {array.dtype} of shape {list(array.shape)}")
    if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        raise PromptError(f"token id {array.max()} is outside every vocabulary")
    return array.astype(np.int64)
