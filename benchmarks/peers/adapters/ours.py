"""neort itself, through its public interface: `neort.load` and `Model.generate`, with the engine around them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from ...harness.timing import Measure, Prompts, Timing

PACKED = ", packed weights"  # saved at the first load, shared by later ones


def prepare(system: str, checkpoint: Path, folder: Path) -> None:
    from neort_export import export

    quantization: Any = system.removeprefix("neort ").removesuffix(PACKED)
    export(checkpoint, folder, quantization=quantization, verify=False)


def load(system: str, folder: Path, threads: int) -> Measure:
    import neort

    packed = folder.parent / "neort-packed" if system.endswith(PACKED) else None
    # the others keep no prompts either
    model = neort.load(folder, num_threads=threads, prefix_cache_bytes=0, packed_weights=packed)

    def measure(prompts: Prompts, new_tokens: int) -> Timing:
        """All prompts are prefilled, one after the other, before the first step; steps are timed together."""
        ids = [np.asarray(prompt, np.int64) for prompt in prompts]
        began = time.perf_counter()
        results = model.generate(ids, max_new_tokens=new_tokens, min_new_tokens=new_tokens)
        total = time.perf_counter() - began
        prefill = max(result.stats.time_to_first_token for result in results)
        steps = [(total - prefill) / (new_tokens - 1) for _ in range(new_tokens - 1)]
        return Timing(prefill, steps, [[int(token) for token in result.token_ids] for result in results])

    return measure
