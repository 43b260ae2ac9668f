"""Makes a checkpoint of the same function whose activations have outlier channels, as large real checkpoints have.

    python benchmarks/outliers.py CHECKPOINT OUTPUT

In every LayerNorm a few channels are multiplied by 60 and the weights that read them divided by 60; before c_fc a few
more are shifted by 12, and its bias takes the shift back. Symmetric quantization of whole rows then loses what the
other channels say, although the model computes what it computed.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

SCALE = 60.0
SHIFT = 12.0
CHANNELS = 3


def inject_outliers(checkpoint: Path, output: Path, *, seed: int = 0) -> None:
    """Write the checkpoint with outlier channels to the folder ``output``; its head is untied."""
    from transformers import GPTNeoForCausalLM

    model = GPTNeoForCausalLM.from_pretrained(checkpoint)
    rng = np.random.default_rng(seed)
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    model.config.tie_word_embeddings = False
    with torch.no_grad():
        for block in model.transformer.h:
            attention = block.attn.attention
            _scale(block.ln_1, [attention.q_proj, attention.k_proj, attention.v_proj], _draw(rng, model))
            channels = _draw(rng, model, 2 * CHANNELS)
            _scale(block.ln_2, [block.mlp.c_fc], channels[:CHANNELS])
            _shift(block.ln_2, block.mlp.c_fc, channels[CHANNELS:])
        _scale(model.transformer.ln_f, [model.lm_head], _draw(rng, model))
    model.save_pretrained(output)
    for file in checkpoint.glob("tokenizer*.json"):
        shutil.copyfile(file, output / file.name)


def _draw(rng: np.random.Generator, model: Any, count: int = CHANNELS) -> torch.Tensor:
    return torch.from_numpy(rng.choice(model.config.hidden_size, count, replace=False))


def _scale(norm: torch.nn.LayerNorm, readers: list[torch.nn.Linear], channels: torch.Tensor) -> None:
    norm.weight[channels] *= SCALE
    norm.bias[channels] *= SCALE
    for reader in readers:
        reader.weight[:, channels] /= SCALE


def _shift(norm: torch.nn.LayerNorm, reader: torch.nn.Linear, channels: torch.Tensor) -> None:
    norm.bias[channels] += SHIFT
    reader.bias -= SHIFT * reader.weight[:, channels].sum(dim=1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("output", type=Path)
    args = parser.parse_args()
    inject_outliers(args.checkpoint, args.output)
