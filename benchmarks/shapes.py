"""Makes a checkpoint of a published model's shape with random weights, for benchmarks of time and memory.

    python benchmarks/shapes.py gpt-neo-1.3b OUTPUT [--dtype float32]

Tensors are written shard by shard, so that 2.7 billion weights need no more memory than one shard. The tokenizer is
that of the bundled model: fewer entries than the model has, but a valid one.
"""

from __future__ import annotations

import argparse
import json
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file

from neort.bundle import bundled_path
from neort_models import RECIPES, recipe

SHARD_BYTES = 1 << 30
INITIALIZER_RANGE = 0.02
QUERY_RANGE = 0.01  # scores of a trained model's size; larger ones single out keys, and float32 itself errs by 1e-3


def make(name: str, output: Path, dtype: torch.dtype = torch.float32, *, query_range: float = QUERY_RANGE) -> None:
    """Write config.json, tokenizer and sharded safetensors to the folder ``output``.

    ``query_range`` is the standard deviation of the weights of queries and keys.
    """
    from transformers import GPTNeoConfig, GPTNeoForCausalLM

    output.mkdir(parents=True)
    config = GPTNeoConfig.from_dict(recipe(name).config())
    config.save_pretrained(output)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(bundled_path() / file, output / file)
    with torch.device("meta"):
        shapes = {key: tensor.shape for key, tensor in GPTNeoForCausalLM(config).state_dict().items()}
    shapes.pop("lm_head.weight", None)  # tied
    shards = list(_shards(shapes, dtype.itemsize))
    weight_map = {}
    for i, names in enumerate(shards, start=1):
        file_name = f"model-{i:05d}-of-{len(shards):05d}.safetensors"
        tensors = {key: _tensor(key, shapes[key], dtype, query_range) for key in names}
        save_file(tensors, output / file_name, {"format": "pt"})
        weight_map |= dict.fromkeys(names, file_name)
    index = {"metadata": {"total_size": sum(s.numel() for s in shapes.values()) * dtype.itemsize},
             "weight_map": weight_map}  # fmt: skip
    (output / "model.safetensors.index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")


def _shards(shapes: dict[str, torch.Size], itemsize: int) -> Iterator[list[str]]:
    names: list[str] = []
    size = 0
    for name, shape in shapes.items():
        nbytes = shape.numel() * itemsize
        if names and size + nbytes > SHARD_BYTES:
            yield names
            names, size = [], 0
        names.append(name)
        size += nbytes
    yield names


def _tensor(name: str, shape: torch.Size, dtype: torch.dtype, query_range: float) -> torch.Tensor:
    """Values of the size that transformers initializes them with, from a generator of the tensor's own."""
    if name.endswith("bias"):
        return torch.zeros(shape, dtype=dtype)
    if ".ln_" in name:
        return torch.ones(shape, dtype=dtype)
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    spread = query_range if "q_proj" in name or "k_proj" in name else INITIALIZER_RANGE
    return torch.empty(shape).normal_(0.0, spread, generator=generator).to(dtype)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(RECIPES))
    parser.add_argument("output", type=Path)
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], default="float32")
    args = parser.parse_args()
    make(args.name, args.output, getattr(torch, args.dtype))
