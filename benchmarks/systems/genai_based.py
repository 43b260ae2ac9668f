"""onnxruntime-genai on the bundle that neort decodes: the same weights, model.onnx instead of decoder.onnx."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from timing import Prompts, Timing, time_steps


def prepare(system: str, checkpoint: Path, folder: Path) -> None:
    """Link the int8 bundle, which was made before."""
    bundle = folder.with_name("neort-int8")
    shutil.copytree(bundle, folder, copy_function=lambda source, target: Path(target).hardlink_to(source))


def load(system: str, folder: Path, threads: int) -> Callable[[Prompts, int], Timing]:
    import onnxruntime_genai as og

    config = og.Config(str(folder))
    config.overlay(f'{{"model": {{"decoder": {{"session_options": {{"intra_op_num_threads": {threads}}}}}}}}}')
    model = og.Model(config)
    generator: Any = None

    def advance() -> list[int]:
        generator.generate_next_token()
        tokens: list[int] = generator.get_next_tokens().tolist()
        return tokens

    def start(prompts: Prompts) -> list[int]:
        nonlocal generator
        params = og.GeneratorParams(model)
        params.set_search_options(max_length=2048, min_length=2048, do_sample=False, batch_size=len(prompts))
        generator = og.Generator(model, params)
        generator.append_tokens(np.asarray(prompts, np.int32))
        return advance()

    return lambda prompts, new_tokens: time_steps(start, lambda _: advance(), prompts, new_tokens)
