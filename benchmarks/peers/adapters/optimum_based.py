"""optimum-onnx: its exported graph, quantized to int8 per tensor; by its own class, and on bare onnxruntime."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...harness.timing import Measure, time_steps

QUANTIZED = "model_quantized.onnx"


def prepare(system: str, checkpoint: Path, folder: Path) -> None:
    """Export and quantize in processes of their own, so that the second does not pay for what the first held."""
    fp32 = folder.with_name(folder.name + "-fp32")
    try:
        for function, source, target in (("export", checkpoint, fp32), ("quantize", fp32, folder)):
            code = f"import sys; from {__name__} import {function}; {function}(*sys.argv[1:])"
            subprocess.run([sys.executable, "-c", code, source, target], check=True)
    finally:
        shutil.rmtree(fp32, ignore_errors=True)


def export(checkpoint: str, fp32: str) -> None:
    from optimum.exporters.onnx import main_export

    main_export(checkpoint, fp32, task="text-generation-with-past", do_validation=False)


def quantize(fp32: str, folder: str) -> None:
    from optimum.onnxruntime import ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    config = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=False)
    ORTQuantizer.from_pretrained(fp32).quantize(save_dir=folder, quantization_config=config)


def load(system: str, folder: Path, threads: int) -> Measure:
    run = _bare(folder, threads) if system.endswith("bare onnxruntime") else _by_optimum(folder, threads)

    def step(tokens: list[int]) -> list[int]:
        return run([[token] for token in tokens], False)

    return lambda prompts, new_tokens: time_steps(lambda p: run(p, True), step, prompts, new_tokens)


def _options(threads: int) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return options


def _by_optimum(folder: Path, threads: int) -> Callable[[list[list[int]], bool], list[int]]:
    import torch
    from optimum.onnxruntime import ORTModelForCausalLM

    torch.set_num_threads(threads)
    model = ORTModelForCausalLM.from_pretrained(folder, file_name=QUANTIZED, session_options=_options(threads))
    past: Any = None
    length = 0

    def run(ids: list[list[int]], fresh: bool) -> list[int]:
        nonlocal past, length
        past, length = (None, 0) if fresh else (past, length)
        length += len(ids[0])
        mask = torch.ones((len(ids), length), dtype=torch.int64)
        output = model(torch.tensor(ids), attention_mask=mask, past_key_values=past, use_cache=True)
        past = output.past_key_values
        tokens: list[int] = output.logits[:, -1].argmax(-1).tolist()
        return tokens

    return run


def _bare(folder: Path, threads: int) -> Callable[[list[list[int]], bool], list[int]]:
    import onnxruntime as ort

    session = ort.InferenceSession(str(folder / QUANTIZED), _options(threads), providers=["CPUExecutionProvider"])
    inputs = {value.name: value.shape for value in session.get_inputs()}
    outputs = {value.name: value.shape for value in session.get_outputs()}
    vocab_size = outputs.pop("logits")[-1]
    logits = np.empty(0, np.float32)  # memory for the largest logits so far
    caches = [name for name in inputs if name.startswith("past_key_values")]
    past: dict[str, Any] = {}
    length = 0

    def run(ids: list[list[int]], fresh: bool) -> list[int]:
        nonlocal past, length, logits
        count, new = len(ids), len(ids[0])
        if fresh:
            length = 0
            empty = {name: np.zeros((count, inputs[name][1], 0, inputs[name][3]), np.float32) for name in caches}
            past = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in empty.items()}
        feeds: dict[str, NDArray[Any]] = {
            "input_ids": np.asarray(ids, np.int64),
            "attention_mask": np.ones((count, length + new), np.int64),
            "position_ids": np.tile(np.arange(length, length + new, dtype=np.int64), (count, 1)),
        }
        binding = session.io_binding()
        for name, array in feeds.items():
            if name in inputs:
                binding.bind_cpu_input(name, array)
        for name, value in past.items():
            binding.bind_ortvalue_input(name, value)
        for name in outputs:
            binding.bind_output(name)
        size = count * new * vocab_size
        logits = logits if logits.size >= size else np.empty(size, np.float32)
        binding.bind_output("logits", "cpu", 0, np.float32, (count, new, vocab_size), logits.ctypes.data)
        session.run_with_iobinding(binding)
        results = dict(zip(outputs, binding.get_outputs(), strict=False))
        past = {name: results[name.replace("past_key_values", "present")] for name in caches}
        length += new
        tokens: list[int] = logits[:size].reshape(count, new, vocab_size)[:, -1].argmax(-1).tolist()
        return tokens

    return run
