"""neort itself: the session's prefill and decode, with the engine around them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from timing import Prompts, Timing


def prepare(system: str, checkpoint: Path, folder: Path) -> None:
    from neort_export import export

    export(checkpoint, folder, quantization=system.removeprefix("neort "), verify=False)  # type: ignore[arg-type]


def load(system: str, folder: Path, threads: int) -> Callable[[Prompts, int], Timing]:
    import neort

    model = neort.load(folder, num_threads=threads)

    def measure(prompts: Prompts, new_tokens: int) -> Timing:
        """Steps are timed as a user sees them: by the tokens of the last sequence, which is admitted last."""
        began = time.perf_counter()
        ids = [np.asarray(prompt, np.int64) for prompt in prompts]
        results = model.generate(ids, max_new_tokens=new_tokens, min_new_tokens=new_tokens)
        total = time.perf_counter() - began
        prefill = max(result.stats.time_to_first_token for result in results)
        return Timing(prefill, [(total - prefill) / (new_tokens - 1)] * (new_tokens - 1))

    return measure
