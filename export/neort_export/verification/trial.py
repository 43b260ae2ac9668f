"""Whether neort runs what was written: the bundle is loaded as its users will load it, and asked for a few tokens."""

from __future__ import annotations

import gc
import math
import warnings
from pathlib import Path

from neort.backend import DECODERS
from neort.bundle import WEIGHTS
from neort.errors import OutOfMemoryError, UnsupportedError
from neort.kvcache import CacheType
from neort.loading import load

from ..memory import available_bytes

__all__ = ["try_bundle"]

PROMPT = "The"
TOKENS = 4
MEMORY = 3  # times the weights: they are read, and packed


def try_bundle(folder: Path) -> str:
    """Load a bundle's folder with each type of cache that it has a graph for, and generate some tokens.

    Returns why that was not done, in one sentence, where there is too little memory for the whole model or onnxruntime
    cannot keep its cache; empty where all was done.

    Raises the NeortError with which neort refuses the bundle or a run of it.
    """
    needed, available = MEMORY * (folder / WEIGHTS).stat().st_size, available_bytes()
    if (math.inf if available is None else available) < needed:
        return f"not loaded as a whole: that may take {needed:,} bytes of memory, and {available:,} are available"
    untried = ""
    for kv_cache, name in DECODERS.items():
        if (folder / name).exists():
            untried = _generate(folder, kv_cache) or untried
    return untried


def _generate(folder: Path, kv_cache: CacheType) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # told before, or about this machine
            model = load(folder, kv_cache=kv_cache, check_weights=True)
            prompt = model.tokenizer.encode(PROMPT)[:1] or [0]
            tokens = min(TOKENS, model.spec.max_position_embeddings - len(prompt))
            model.generate(prompt, model.generation_config.replace(max_new_tokens=tokens, min_new_tokens=None))
            del model
    except (OutOfMemoryError, UnsupportedError) as error:
        return f"not tried with kv_cache {kv_cache!r}: {error}"
    finally:
        gc.collect()  # what the session maps is let go before the folder is renamed
    return ""
