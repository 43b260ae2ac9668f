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
    run = _Bare(folder, threads).run if system.endswith("bare onnxruntime") else _by_optimum(folder, threads)

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


class _Bare:
    """The graph with bound inputs and outputs; the cache of one run is the past of the next."""

    def __init__(self, folder: Path, threads: int) -> None:
        import onnxruntime as ort

        self.ort = ort
        self.session = ort.InferenceSession(
            str(folder / QUANTIZED), _options(threads), providers=["CPUExecutionProvider"]
        )
        self.inputs = {value.name: value.shape for value in self.session.get_inputs()}
        self.outputs = {value.name: value.shape for value in self.session.get_outputs()}
        self.vocab_size = self.outputs.pop("logits")[-1]
        self.logits = np.empty(0, np.float32)  # memory for the largest logits so far
        self.past: dict[str, Any] = {}
        self.length = 0

    def run(self, ids: list[list[int]], fresh: bool) -> list[int]:
        """The best next token of each sequence after ``ids``, which follow the past, or nothing where ``fresh``."""
        count, new = len(ids), len(ids[0])
        if fresh:
            self._forget(count)
        binding = self.session.io_binding()
        for name, array in self._feeds(ids).items():
            if name in self.inputs:
                binding.bind_cpu_input(name, array)
        for name, value in self.past.items():
            binding.bind_ortvalue_input(name, value)
        for name in self.outputs:
            binding.bind_output(name)
        size = count * new * self.vocab_size
        if self.logits.size < size:
            self.logits = np.empty(size, np.float32)
        shape = (count, new, self.vocab_size)
        binding.bind_output("logits", "cpu", 0, np.float32, shape, self.logits.ctypes.data)
        self.session.run_with_iobinding(binding)
        results = dict(zip(self.outputs, binding.get_outputs(), strict=False))
        self.past = {name: results[name.replace("past_key_values", "present")] for name in self.past}
        self.length += new
        tokens: list[int] = self.logits[:size].reshape(shape)[:, -1].argmax(-1).tolist()
        return tokens

    def _forget(self, count: int) -> None:
        self.length = 0
        caches = {name: shape for name, shape in self.inputs.items() if name.startswith("past_key_values")}
        empty = {name: np.zeros((count, shape[1], 0, shape[3]), np.float32) for name, shape in caches.items()}
        self.past = {name: self.ort.OrtValue.ortvalue_from_numpy(array) for name, array in empty.items()}

    def _feeds(self, ids: list[list[int]]) -> dict[str, NDArray[Any]]:
        count, total = len(ids), self.length + len(ids[0])
        return {
            "input_ids": np.asarray(ids, np.int64),
            "attention_mask": np.ones((count, total), np.int64),
            "position_ids": np.tile(np.arange(self.length, total, dtype=np.int64), (count, 1)),
        }
