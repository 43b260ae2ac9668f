"""Makes a checkpoint of a published model's shape with random weights, for benchmarks of time and memory.

    python -m benchmarks.checkpoints.shapes gpt-neo-1.3b OUTPUT [--dtype float32] [--tokenizer FOLDER]

Tensors are written shard by shard, so that 2.7 billion weights need no more memory than one shard. The tokenizer is
that of the bundled model: fewer entries than the model has, so most of the tokens that it generates have no text. Where
text is what is measured, FOLDER has GPT-2's tokenizer.json and tokenizer_config.json.
"""

from __future__ import annotations

import argparse
import json
import math
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from neort.bundle import bundled_path
from neort_export.architectures import ARCHITECTURES, Architecture
from neort_models import PRESETS, preset

from ..harness.arguments import script_parser
from .tokenizer import copy_tokenizer

__all__ = ["INITIALIZER_RANGE", "make_shape", "make_two_layers"]

SHARD_BYTES = 1 << 30
INITIALIZER_RANGE = 0.02
QUERY_RANGE = 0.01  # scores of a trained model's size; larger ones single out keys, and float32 itself errs by 1e-3


def make_shape(
    name: str,
    output: Path,
    dtype: torch.dtype = torch.float32,
    *,
    query_range: float = QUERY_RANGE,
    tokenizer: Path | None = None,
) -> None:
    """Write config.json, tokenizer and sharded safetensors to the folder ``output``.

    ``query_range`` is the standard deviation of the weights of queries and keys, ``tokenizer`` a folder with another
    tokenizer than the bundled model's.
    """
    output.mkdir(parents=True)
    family = ARCHITECTURES[preset(name).family]
    config = family.read_config(preset(name).config())
    with torch.device("meta"):
        config.architectures = [type(AutoModelForCausalLM.from_config(config)).__name__]  # vLLM asks for it
    config.save_pretrained(output)
    copy_tokenizer(tokenizer or bundled_path(), output)
    shapes = _stored_shapes(family, config)
    shards = list(_shards(shapes, dtype.itemsize))
    weight_map: dict[str, str] = {}
    for i, names in enumerate(shards, start=1):
        file_name = f"model-{i:05d}-of-{len(shards):05d}.safetensors"
        tensors = {key: _tensor(family, key, shapes[key], dtype, query_range) for key in names}
        save_file(tensors, output / file_name, {"format": "pt"})
        weight_map |= dict.fromkeys(names, file_name)
    index = {"metadata": {"total_size": sum(map(math.prod, shapes.values())) * dtype.itemsize},
             "weight_map": weight_map}  # fmt: skip
    (output / "model.safetensors.index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")


@torch.no_grad()
def make_two_layers(name: str, output: Path, *, spread: float = 0.05) -> None:
    """Write two layers, of either kind if there are two, of a published shape; weights have the deviation ``spread``.

    Scores have a trained model's size; the vocabulary is small, the tokenizer that of the bundled model.
    """
    family = ARCHITECTURES[preset(name).family]
    two = family.layers_in_turn(2) | {"vocab_size": 4096}
    two |= {"bos_token_id": None, "eos_token_id": None}  # the published ones lie beyond this vocabulary
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(family.read_config(preset(name).config() | two))
    for key, parameter in model.named_parameters():
        parameter.normal_(0, spread / 2 if is_of(key, _scored(family)) else spread)
        if is_of(key, _norms(family)) and key.endswith("weight"):
            parameter.add_(1)
    model.save_pretrained(output)
    copy_tokenizer(bundled_path(), output)


def is_of(tensor: str, modules: Sequence[str]) -> bool:
    """Whether a tensor is the weight or the bias of one of some modules, which end in ``modules``."""
    return f".{tensor}".rpartition(".")[0].endswith(tuple(f".{module}" for module in modules))


def _norms(family: Architecture) -> tuple[str, ...]:
    return *family.names.norms, family.names.final_norm


def _scored(family: Architecture) -> tuple[str, ...]:
    """The linear layers of queries and keys, where they are no part of one for the values too."""
    return family.names.query_key_value[:-1]


def _stored_shapes(family: Architecture, config: Any) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors as files have them."""
    dimensions = family.dimensions(config)
    linears = family.linear_weights(dimensions)
    return {
        name: shape[::-1] if name in linears and linears[name].transposed else shape
        for name, shape in family.shapes(dimensions, tied=True).items()
    }


def _shards(shapes: dict[str, tuple[int, ...]], itemsize: int) -> Iterator[list[str]]:
    names: list[str] = []
    size = 0
    for name, shape in shapes.items():
        nbytes = math.prod(shape) * itemsize
        if names and size + nbytes > SHARD_BYTES:
            yield names
            names, size = [], 0
        names.append(name)
        size += nbytes
    yield names


def _tensor(
    family: Architecture, name: str, shape: tuple[int, ...], dtype: torch.dtype, query_range: float
) -> torch.Tensor:
    """Values of the size that transformers initializes them with, from a generator of the tensor's own."""
    if name.endswith("bias"):
        return torch.zeros(shape, dtype=dtype)
    if is_of(name, _norms(family)):
        return torch.ones(shape, dtype=dtype)
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    spread = query_range if is_of(name, _scored(family)) else INITIALIZER_RANGE
    return torch.empty(shape).normal_(0.0, spread, generator=generator).to(dtype)


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("name", choices=sorted(PRESETS))
    parser.add_argument("output", type=Path)
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], default="float32")
    parser.add_argument("--tokenizer", type=Path, help="folder of another tokenizer than the bundled model's")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    make_shape(args.name, args.output, getattr(torch, args.dtype), tokenizer=args.tokenizer)


if __name__ == "__main__":
    main()
