"""OpenVINO through optimum-intel, which keeps the local window (OpenVINO GenAI's default backend drops it).

As OpenVINO GenAI does, lm_head is computed for the last position only. Its plugin chooses the rest: on CPUs with
AVX512-BF16 what is not int8 runs in bfloat16.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...harness.timing import Measure, Prompts, time_steps


def prepare(system: str, checkpoint: Path, folder: Path) -> None:
    from optimum.intel import OVModelForCausalLM, OVWeightQuantizationConfig

    bits = 4 if system.endswith("int4") else 8
    config = OVWeightQuantizationConfig(bits=bits, **({"group_size": 32, "sym": True} if bits == 4 else {}))
    model = OVModelForCausalLM.from_pretrained(checkpoint, export=True, quantization_config=config, compile=False)
    model.save_pretrained(folder)


def load(system: str, folder: Path, threads: int) -> Measure:
    import torch
    from optimum.intel import OVModelForCausalLM

    torch.set_num_threads(threads)
    settings = {"INFERENCE_NUM_THREADS": str(threads), "PERFORMANCE_HINT": "LATENCY"}
    model = OVModelForCausalLM.from_pretrained(folder, ov_config=settings, compile=False)
    _keep_last_logits(model.model)
    model.compile()
    past: Any = None
    length = 0

    def run(ids: list[list[int]]) -> list[int]:
        """The model keeps its cache itself; past None makes it forget."""
        nonlocal past, length
        length += len(ids[0])
        mask = torch.ones((len(ids), length), dtype=torch.int64)
        output = model(torch.tensor(ids), attention_mask=mask, past_key_values=past)
        past = output.past_key_values
        tokens: list[int] = output.logits[:, -1].argmax(-1).tolist()
        return tokens

    def start(prompts: Prompts) -> list[int]:
        nonlocal past, length
        past, length = None, 0
        return run(prompts)

    return lambda prompts, new_tokens: time_steps(start, lambda tokens: run([[t] for t in tokens]), prompts, new_tokens)


def _keep_last_logits(graph: Any) -> None:
    """Hand lm_head the last position only, as other systems do in a prompt."""
    import numpy as np
    from openvino import opset13 as ops

    product = graph.output("logits").get_node().input_value(0).get_node()
    if product.get_type_name() != "MatMul":
        raise RuntimeError(f"logits come from {product.get_type_name()}, not from lm_head's product")
    last, end, step, axis = (ops.constant(np.array([number], np.int64)) for number in (-1, -2, -1, 1))
    product.input(0).replace_source_output(ops.slice(product.input_value(0), last, end, step, axis).output(0))
    graph.validate_nodes_and_infer_types()
