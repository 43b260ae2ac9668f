"""Loads a bundle: checks it, opens its graph, and puts the parts of a `Model` together."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .backend import DecoderSession
from .bundle import WEIGHTS, Bundle, bundled_path
from .engine import PREFILL_CHUNK, Engine, EngineCore
from .errors import ArgumentTypeError, BundleError, ConfigError
from .generation import GenerationConfig
from .kvcache import CACHE_TYPES, CacheType, PrefixCache
from .model import Model
from .speculative import PROMPT_LOOKUP, Drafter, ModelDrafter, PromptLookup, Speculator, draft_cost, verification_cost
from .tokenizer import Tokenizer

__all__ = ["load"]

LEAST_PREFIX_BYTES = 64 << 20
MAX_BATCH_SIZE = 8


def load(
    bundle: str | os.PathLike[str] | None = None,
    *,
    num_threads: int | None = None,
    max_batch_size: int = MAX_BATCH_SIZE,
    check_weights: bool = False,
    packed_weights: str | os.PathLike[str] | None = None,
    draft: str | os.PathLike[str] | None = None,
    max_cache_bytes: int | None = None,
    prefix_cache_bytes: int | None = None,
    kv_cache: CacheType = "fp32",
    configure_session: Callable[[Any], None] | None = None,
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

    ``configure_session`` is called with the onnxruntime.SessionOptions before the graph is opened, to profile it, say,
    or to have its threads elsewhere; what it sets is not checked.

    Raises BundleError for a bundle that is missing, damaged, tampered with or of another format version;
    UnsupportedError for an onnxruntime that is too old for it, or that computes it wrongly; StorageError when packed
    weights cannot be saved; TokenizerError for a tokenizer that cannot be reproduced exactly; ConfigError and
    ArgumentTypeError for an argument out of range or of a wrong type.
    """
    if kv_cache not in CACHE_TYPES:
        raise ConfigError(f"kv_cache is {kv_cache!r}; it must be one of {', '.join(CACHE_TYPES)}")
    if configure_session is not None and not callable(configure_session):
        raise ArgumentTypeError(f"configure_session is a function of the options, not {_type(configure_session)}")
    threads, slots = _count("num_threads", num_threads, 1), _count("max_batch_size", max_batch_size, 1)
    cache_bytes = _count("max_cache_bytes", max_cache_bytes, 1)
    prefix_bytes = _count("prefix_cache_bytes", prefix_cache_bytes, 0)
    packed = _home_expanded(_path("packed_weights", packed_weights))
    draft_path = None if draft == PROMPT_LOOKUP else _path("draft", draft)
    smaller = None if draft_path is None else Bundle(draft_path)
    opened = Bundle(_path("bundle", bundle) or bundled_path(), check_weights=check_weights)
    tokenizer = Tokenizer.from_file(opened.file("tokenizer.json"))
    generation_config = GenerationConfig.from_hf(opened.read_json("generation_config.json"))
    runner = DecoderSession(
        opened,
        num_threads=threads,
        max_batch_size=slots or MAX_BATCH_SIZE,
        packed_weights=packed,
        kv_cache=kv_cache,
        configure=configure_session,
    )
    core = EngineCore(
        runner,
        max_cache_bytes=cache_bytes,
        speculate=None if draft is None else _speculate(smaller, opened, tokenizer, runner.num_threads),
        prefixes=_prefixes(opened, runner, prefix_bytes),
    )
    return Model(opened, tokenizer, generation_config, runner, Engine(core))


def _count(name: str, value: object, least: int) -> int | None:
    """An argument that is an integer of at least ``least``, or None. Raises ArgumentTypeError, ConfigError."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ArgumentTypeError(f"{name} is an integer, not {_type(value)}")
    if value < least:
        raise ConfigError(f"{name} is {value}; it must be at least {least}")
    return int(value)


def _path(name: str, value: object) -> Path | None:
    """An argument that is the path of a folder, or None. Raises ArgumentTypeError, ConfigError."""
    if value is None:
        return None
    if not isinstance(value, (str, os.PathLike)):
        raise ArgumentTypeError(f"{name} is the path of a folder, not {_type(value)}")
    if not os.fspath(value):
        raise ConfigError(f"the path of {name} is empty; name a folder, or leave it out")
    return Path(value)


def _home_expanded(path: Path | None) -> Path | None:
    """The path with ``~`` written out. Raises ConfigError for the home folder of nobody."""
    try:
        return None if path is None else path.expanduser()
    except RuntimeError as error:
        raise ConfigError(f"packed_weights {str(path)!r} names the home folder of nobody ({error})") from None


def _type(value: object) -> str:
    return type(value).__name__


def _prefixes(bundle: Bundle, runner: DecoderSession, budget: int | None) -> PrefixCache:
    """What keeps prompts: None is about a thousand positions of a large model, and what a small one does not notice."""
    if budget is None:
        budget = max(LEAST_PREFIX_BYTES, _weight_bytes(bundle) // 4)
    return PrefixCache(runner, budget=budget, block_size=PREFILL_CHUNK)


def _speculate(
    draft: Bundle | None, bundle: Bundle, tokenizer: Tokenizer, num_threads: int
) -> Callable[[], Speculator]:
    """What makes a sequence's speculator; without a draft model, by looking into the text.

    Raises BundleError for a draft model with another tokenizer.
    """
    drafter: Drafter = PromptLookup()
    if draft is not None:
        _check_vocabulary(draft, bundle, tokenizer)
        runner = DecoderSession(draft, num_threads=num_threads, max_batch_size=1)
        drafter = ModelDrafter(runner, draft_cost(_weight_bytes(draft), _weight_bytes(bundle)))
    cost = verification_cost(bundle.quantization, _weight_bytes(bundle), bundle.stated_cost)
    return lambda: Speculator(drafter, cost)


def _check_vocabulary(draft: Bundle, bundle: Bundle, tokenizer: Tokenizer) -> None:
    """Raise BundleError where the draft model's tokens are others."""
    own, size = Tokenizer.from_file(draft.file("tokenizer.json")), bundle.spec.vocab_size
    different = [i for i in range(size) if own.token_bytes(i) != tokenizer.token_bytes(i)]
    if draft.spec.vocab_size != size or different:
        what = f"token {different[0]}" if different else f"{draft.spec.vocab_size} tokens, not {size}"
        raise BundleError(
            f"{draft.path} cannot draft for {bundle.path}: its vocabulary is another one ({what}); "
            "a draft model shares the tokenizer"
        )


def _weight_bytes(bundle: Bundle) -> int:
    return bundle.file(WEIGHTS).stat().st_size
