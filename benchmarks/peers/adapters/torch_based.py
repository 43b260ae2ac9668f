"""transformers in float32 and bfloat16, and torch's dynamic int8 quantization of its linear layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...harness.timing import Measure, Prompts, time_steps


def prepare(system: str, checkpoint: Path, folder: Path) -> None:
    """Nothing is converted: the folder refers to the checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "checkpoint").write_text(str(checkpoint.resolve()), encoding="utf-8")


def load(system: str, folder: Path, threads: int) -> Measure:
    import torch
    from transformers import GPTNeoForCausalLM

    torch.set_num_threads(threads)
    dtype = torch.bfloat16 if system.endswith("bf16") else torch.float32
    path = (folder / "checkpoint").read_text(encoding="utf-8")
    model: Any = GPTNeoForCausalLM.from_pretrained(path, dtype=dtype).eval()
    if system == "torch dynamic int8":
        quantize: Any = torch.ao.quantization.quantize_dynamic
        quantize(model, {torch.nn.Linear}, dtype=torch.qint8, inplace=True)
    past: Any = None

    @torch.inference_mode()
    def run(ids: list[list[int]]) -> list[int]:
        nonlocal past
        output = model(torch.tensor(ids), past_key_values=past, use_cache=True, logits_to_keep=1)
        past = output.past_key_values
        tokens: list[int] = output.logits[:, -1].argmax(-1).tolist()
        return tokens

    def start(prompts: Prompts) -> list[int]:
        nonlocal past
        past = None
        return run(prompts)

    return lambda prompts, new_tokens: time_steps(start, lambda tokens: run([[t] for t in tokens]), prompts, new_tokens)
