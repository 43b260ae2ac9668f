"""Makes a checkpoint of the same function whose activations have outlier channels, as large real checkpoints have.

    python -m benchmarks.checkpoints.outliers CHECKPOINT OUTPUT

In every LayerNorm a few channels are multiplied by 60 and the weights that read them divided by 60; before the MLP a
few more are shifted by 12, and the bias of its first linear layer takes the shift back. Symmetric quantization of whole
rows then loses what the other channels say, although the model computes what it computed.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from neort_export.architectures import architecture_of

from ..harness.arguments import script_parser
from .tokenizer import copy_tokenizer

__all__ = ["make_twin", "with_far_channels", "with_outliers", "with_scores"]

SCALE = 60.0
SHIFT = 12.0


def make_twin(checkpoint: Path, output: Path, change: Callable[[Any], Any]) -> Path:
    """Write the checkpoint's model after ``change``, tokenizer included, to the folder ``output``; returns it."""
    from transformers import AutoModelForCausalLM

    change(AutoModelForCausalLM.from_pretrained(checkpoint)).save_pretrained(output)
    copy_tokenizer(checkpoint, output)
    return output


@torch.no_grad()
def with_outliers(model: Any, *, factor: float = SCALE, shift: float = SHIFT, seed: int = 3) -> Any:
    """The same function, computed with outlier channels such as large trained models have; its head is untied.

    After every LayerNorm 3 channels are ``factor`` times as large, and the next weight's columns as much smaller;
    before the MLP 3 other channels are shifted by ``shift``, which the bias of its first linear layer takes back.
    """
    twin = copy.deepcopy(model)
    twin.config.tie_word_embeddings = False
    head = twin.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().clone())
    generator = torch.Generator().manual_seed(seed)
    names = architecture_of(model.config).names

    def enlarge(norm: Any, channels: torch.Tensor, *weights: torch.Tensor) -> None:
        norm.weight[channels] *= factor
        norm.bias[channels] *= factor
        for weight in weights:
            weight[:, channels] /= factor

    for layer in layers(twin):
        attention_norm, mlp_norm = (layer.get_submodule(name) for name in names.norms)
        linear = layer.get_submodule(names.mlp_input)
        channels = torch.randperm(model.config.hidden_size, generator=generator)
        large, shifted = channels[:3], channels[3:6]
        enlarge(attention_norm, large, *(layer.get_submodule(name).weight for name in names.query_key_value))
        enlarge(mlp_norm, large, linear.weight)
        mlp_norm.bias[shifted] += shift
        linear.bias -= linear.weight[:, shifted].sum(1) * shift
    channels = torch.randperm(model.config.hidden_size, generator=generator)
    enlarge(twin.get_submodule(names.final_norm), channels[:3], head.weight)
    return twin


@torch.no_grad()
def with_far_channels(model: Any, mean: float, *, seed: int = 3) -> Any:
    """The same function, computed with channels that are ``mean`` on average and deviate from it by about 1.

    Before every MLP 3 channels are scaled and shifted; the columns and the bias of its first linear layer take that
    back.
    """
    twin = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    names = architecture_of(model.config).names
    for layer in layers(twin):
        norm, linear = layer.get_submodule(names.norms[1]), layer.get_submodule(names.mlp_input)
        far = torch.randperm(model.config.hidden_size, generator=generator)[:3]
        size = norm.weight[far].abs()
        shift = mean - norm.bias[far] / size
        linear.weight[:, far] *= size
        norm.weight[far] /= size
        norm.bias[far] = mean
        linear.bias -= linear.weight[:, far] @ shift
    return twin


@torch.no_grad()
def with_scores(model: Any, factor: float) -> Any:
    """The model with queries ``factor`` times as large: attention picks fewer keys."""
    scaled = copy.deepcopy(model)
    queries = architecture_of(model.config).names.query_key_value[0]
    for layer in layers(scaled):
        layer.get_submodule(queries).weight *= factor
    return scaled


def layers(model: Any) -> Any:
    """The transformer layers of one of transformers' models, a torch.nn.ModuleList."""
    return model.get_submodule(architecture_of(model.config).names.layers)


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("output", type=Path)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    make_twin(args.checkpoint, args.output, with_outliers)


if __name__ == "__main__":
    main()
