"""onnxruntime-genai on the bundle that neort decodes: the same weights, model.onnx instead of decoder.onnx."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ...harness.timing import Measure, Prompts, time_steps
from .ours import prepare

__all__ = ["load", "prepare"]

OPTIONS = {"graph_optimization_level": "ORT_ENABLE_BASIC"}  # by default, prompts are 1.4 times slower


def load(system: str, folder: Path, threads: int) -> Measure:
    import onnxruntime_genai as og

    config = og.Config(str(folder))
    options = {"intra_op_num_threads": threads, **OPTIONS}
    config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
    model = og.Model(config)
    generator: Any = None

    def advance() -> list[int]:
        generator.generate_next_token()
        tokens: list[int] = generator.get_next_tokens().tolist()
        return tokens

    def measure(prompts: Prompts, new_tokens: int) -> Any:
        """The cache is made for just as many tokens as the request needs, and counts as prefill."""
        length = len(prompts[0]) + new_tokens

        def start(prompts: Prompts) -> list[int]:
            nonlocal generator
            params = og.GeneratorParams(model)
            params.set_search_options(max_length=length, min_length=length, do_sample=False, batch_size=len(prompts))
            generator = og.Generator(model, params)
            generator.append_tokens(np.asarray(prompts, np.int32))
            return advance()

        return time_steps(start, lambda _: advance(), prompts, new_tokens)

    return measure
