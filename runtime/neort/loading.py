"""Loads a bundle: checks it, opens its graph, and puts the parts of a `Model` together."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .backend import DecoderSession, checked_threads
from .bundle import WEIGHTS, Bundle, bundled_path
from .engine import Engine, EngineCore
from .errors import (
    ArgumentTypeError,
    BundleError,
    ConfigError,
    NeortError,
    OutOfMemoryError,
    TokenizerError,
)
from .generation import LOAD_KNOWN_ELSEWHERE, MOST_SEQUENCES, OPTIONS, GenerationConfig, hinting
from .hub import find_bundle
from .kvcache import CACHE_TYPES, CacheType, PrefixCache
from .model import Model
from .paths import given_path
from .runner import prefill_chunk_of
from .speculative import PROMPT_LOOKUP, Drafter, ModelDrafter, PromptLookup, Speculator, draft_cost, verification_cost
from .tokenizer import Tokenizer
from .wording import shortened

__all__ = ["MAX_BATCH_SIZE", "load", "options_of"]

LEAST_PREFIX_BYTES = 64 << 20
MAX_BATCH_SIZE = 8
TOKENIZER, GENERATION_CONFIG = "tokenizer.json", "generation_config.json"


@functools.partial(hinting, hints=LOAD_KNOWN_ELSEWHERE, options=OPTIONS)
def load(
    bundle: str | os.PathLike[str] | None = None,
    *,
    num_threads: int | None = None,
    max_batch_size: int = MAX_BATCH_SIZE,
    check_weights: bool = False,
    packed_weights: str | os.PathLike[str] | None = None,
    draft: str | os.PathLike[str] | None = None,
    max_cache_bytes: int | None = None,
    max_queue: int | None = None,
    prefix_cache_bytes: int | None = None,
    kv_cache: CacheType = "fp32",
    configure_session: Callable[[Any], None] | None = None,
) -> Model:
    """Load a bundle, or the bundled demonstration model.

    ``bundle`` is a folder, or the name that one was pulled by, OWNER/NAME[/FORMAT][@REVISION] or an https address:
    `neort pull` has put it into the cache, and loading opens no connection. A folder that exists comes first.

    ``num_threads`` defaults to the CPUs that the process may use (affinity and container quota); it may be 64, or 4 per
    CPU of the machine where these are more, and never more than the system lets the process start (the user's limit
    of processes, the container's pids.max). ``max_batch_size`` is how many sequences are decoded together, 4,096 at
    most; further ones wait. ``check_weights`` also compares
    the weights with their hash in the manifest, about a second per gigabyte.

    ``packed_weights`` is a folder for the weights as onnxruntime's kernels want them. The first load saves them there,
    twice the size of the bundle; later ones map them into memory, which is faster and shares them among processes. Its
    files are trusted: it must be a folder that nobody else can write to.

    ``draft`` proposes tokens, of which the model checks several in one run: "prompt-lookup" copies from the text
    itself, the folder of a smaller model's bundle with the same tokenizer lets that model propose. The tokens stay
    those of plain decoding, up to rounding in near ties; a sequence that is alone in the engine gets them faster.

    ``max_cache_bytes`` limits the key-value cache: requests wait until the running ones leave room, and one that alone
    needs more raises PromptError. None means no limit.

    ``max_queue`` limits the requests that wait for a slot or for room in the cache: beyond it a call raises BusyError
    at once. 0 lets none wait; None means no limit.

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
    weights cannot be saved; TokenizerError for a tokenizer that cannot be reproduced exactly; OutOfMemoryError
    where there is no memory for it; ConfigError and ArgumentTypeError for an argument out of range or of a wrong type.
    """
    if not isinstance(kv_cache, str):
        raise ArgumentTypeError(f"kv_cache is one of {', '.join(CACHE_TYPES)}, not {_type(kv_cache)}")
    if kv_cache not in CACHE_TYPES:
        raise ConfigError(f"kv_cache is {shortened(kv_cache)}; it must be one of {', '.join(CACHE_TYPES)}")
    if configure_session is not None and not callable(configure_session):
        raise ArgumentTypeError(f"configure_session is a function of the options, not {_type(configure_session)}")
    threads = None if num_threads is None else checked_threads(num_threads)
    slots = _count("max_batch_size", max_batch_size, 1, MOST_SEQUENCES)
    cache_bytes = _count("max_cache_bytes", max_cache_bytes, 1)
    queue = _count("max_queue", max_queue, 0)
    prefix_bytes = _count("prefix_cache_bytes", prefix_cache_bytes, 0)
    packed = None if packed_weights is None else given_path(packed_weights, "packed_weights", ConfigError)
    draft_path = None if isinstance(draft, str) and draft == PROMPT_LOOKUP else _path("draft", draft)
    path = _path("bundle", bundle)
    with _memory_errors(path):
        smaller = None if draft_path is None else Bundle(draft_path)
        opened = Bundle(path or bundled_path(), check_weights=check_weights)
        tokenizer, generation_config = _tokenizer(opened), options_of(opened)
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
            max_queue=queue,
            speculate=None if draft is None else _speculate(smaller, opened, tokenizer, runner.num_threads),
            prefixes=_prefixes(opened, runner, prefix_bytes),
        )
        return Model(opened, tokenizer, generation_config, runner, Engine(core))


def options_of(bundle: Bundle) -> GenerationConfig:
    """The bundle's options. Raises BundleError for what transformers would not load, either."""
    try:
        return GenerationConfig.from_hf(bundle.read_json(GENERATION_CONFIG))
    except (ArgumentTypeError, ConfigError) as error:
        raise BundleError(
            f"{bundle.file(GENERATION_CONFIG)}: {error} Correct the checkpoint's file, and export it again"
        ) from None


@contextlib.contextmanager
def _memory_errors(path: Path | None) -> Iterator[None]:
    """Raise OutOfMemoryError in the place of what Python says where there is no memory."""
    try:
        yield
    except NeortError:
        raise
    except MemoryError as error:
        raise OutOfMemoryError(
            f"there is no memory to load {path or 'the bundled model'} ({error or 'the system gives no more'}); free "
            "some or allow more, or use a bundle in a format with smaller weights"
        ) from error


def _tokenizer(bundle: Bundle) -> Tokenizer:
    """The bundle's tokenizer. Raises TokenizerError for one that cannot be reproduced, or whose texts the model lacks.

    Added tokens may lie beyond the model's: a prompt that holds one is refused when it comes.
    """
    file = bundle.file(TOKENIZER)
    try:
        tokenizer = Tokenizer.from_file(file)
    except TokenizerError as error:
        if str(file) in str(error):
            raise
        raise TokenizerError(f"{file}: {error}") from None
    if tokenizer.largest_text_id >= bundle.spec.vocab_size:
        raise TokenizerError(
            f"{file} has a token of id {tokenizer.largest_text_id}, and the model's end at "
            f"{bundle.spec.vocab_size - 1}: use the tokenizer that belongs to these weights, and export them again"
        )
    return tokenizer


def _count(name: str, value: object, least: int, most: int | None = None) -> int | None:
    """An argument that is an integer from ``least`` to ``most``, or None. Raises ArgumentTypeError, ConfigError."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ArgumentTypeError(f"{name} is an integer, not {_type(value)}")
    if value < least:
        raise ConfigError(f"{name} is {shortened(int(value))}; it must be at least {least}")
    if most is not None and value > most:
        raise ConfigError(f"{name} is {shortened(int(value))}; it must be at most {most:,}")
    return int(value)


def _path(name: str, value: object) -> Path | None:
    """An argument that names a bundle, or None. Raises ArgumentTypeError, ConfigError, and what `find_bundle` does."""
    if value is None:
        return None
    if not isinstance(value, (str, os.PathLike)):
        raise ArgumentTypeError(f"{name} is the path of a folder, not {_type(value)}")
    if not os.fspath(value):
        raise ConfigError(f"the path of {name} is empty; name a folder, or leave it out")
    return find_bundle(value)


def _type(value: object) -> str:
    return type(value).__name__


def _prefixes(bundle: Bundle, runner: DecoderSession, budget: int | None) -> PrefixCache:
    """What keeps prompts: None is about a thousand positions of a large model, and what a small one does not notice."""
    if budget is None:
        budget = max(LEAST_PREFIX_BYTES, _weight_bytes(bundle) // 4)
    return PrefixCache(runner, budget=budget, block_size=prefill_chunk_of(runner.spec))


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
    own, size = _tokenizer(draft), bundle.spec.vocab_size
    different = [i for i in range(size) if own.token_bytes(i) != tokenizer.token_bytes(i)]
    if draft.spec.vocab_size != size or different:
        what = f"token {different[0]}" if different else f"{draft.spec.vocab_size} tokens, not {size}"
        raise BundleError(
            f"{draft.path} cannot draft for {bundle.path}: its vocabulary is another one ({what}); "
            "a draft model shares the tokenizer"
        )


def _weight_bytes(bundle: Bundle) -> int:
    return bundle.file(WEIGHTS).stat().st_size
