"""The two factors of a module's change, and rows of a weight with their product added."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from neort.wording import shortened

from ...errors import CheckpointError
from ..tensors import StoredTensor

__all__ = ["Factors", "collected"]

LINEAR = {".lora_A.weight": "down", ".lora_B.weight": "up", ".lora_B.bias": "bias"}
EMBEDDING = {".lora_embedding_A": "down", ".lora_embedding_B": "up"}
PARTS = LINEAR | EMBEDDING
ADAPTER = re.compile(r"(\.lora_(?:embedding_)?[AB])\.default(?=\.|$)")  # the adapter's own name, in a state dict of all
AGAIN = "fetch the adapter again, or save it again with peft"


@dataclass(frozen=True)
class Factors:
    """What an adapter adds to a weight [N, K]: the product of ``up`` [N, R] and ``down`` [R, K], times a scaling.

    Those of an ``embedding`` are stored the other way round, ``up`` [K, R] and ``down`` [R, N]. ``bias`` [N] is what
    some add to the layer's bias, times the scaling, too.
    """

    module: str
    down: StoredTensor
    up: StoredTensor
    bias: StoredTensor | None
    embedding: bool
    scaling: float

    @classmethod
    def of(
        cls,
        file: Path,
        module: str,
        tensors: Mapping[str, StoredTensor],
        weight: tuple[int, ...],
        rank: int,
        scaling: float,
    ) -> Factors:
        """Find the factors of a module among its tensors by the endings of their names.

        Raises CheckpointError for factors that do not fit the base model's weight.
        """
        embedding = any(ending in EMBEDDING for ending in tensors)
        parts = {PARTS[ending]: tensor for ending, tensor in tensors.items()}
        if "down" not in parts or "up" not in parts or len(parts) < len(tensors):
            raise CheckpointError(
                f"{file} has {', '.join(shortened(t.name) for t in tensors.values())} for {shortened(module)}, which "
                f"are no pair of factors; {AGAIN}"
            )
        rows, columns = weight[::-1] if embedding else weight
        _check(parts["down"], (rank, columns))
        _check(parts["up"], (rows, rank))
        if "bias" in parts:
            _check(parts["bias"], (rows,))
        return cls(module, parts["down"], parts["up"], parts.get("bias"), embedding, scaling)

    def added_to(self, weight: StoredTensor) -> StoredTensor:
        """Return the weight with the product added, which is computed for the rows that are read."""

        def merged(start: int, stop: int | None) -> torch.Tensor:
            rows = torch.from_numpy(weight.read(start, stop))
            down = torch.from_numpy(self.down.read())
            if self.embedding:
                return rows + (torch.from_numpy(self.up.read()) @ down[:, start:stop]).T * self.scaling
            return rows + torch.from_numpy(self.up.read(start, stop)) @ down * self.scaling

        return StoredTensor(self.down.file, f"{self.module}.weight", weight.shape, "float32", merged)

    def added_to_bias(self, base: StoredTensor | None) -> StoredTensor | None:
        """Return the layer's bias with the factors' own added. Raises CheckpointError for a layer without one."""
        bias = self.bias
        if bias is None:
            return base
        if base is None:
            raise CheckpointError(
                f"{bias.file} has {shortened(bias.name)}, but {shortened(self.module)} has no bias in the base model; "
                "an adapter with lora_bias can be merged where layers have biases only: train it without"
            )

        def merged(start: int, stop: int | None) -> torch.Tensor:
            return torch.from_numpy(base.read(start, stop) + bias.read(start, stop) * np.float32(self.scaling))

        return StoredTensor(bias.file, f"{self.module}.bias", base.shape, "float32", merged)


def collected(
    tensors: Mapping[str, StoredTensor], prefix: str
) -> tuple[dict[str, dict[str, StoredTensor]], dict[str, StoredTensor]]:
    """Sort an adapter's tensors: factors by module and by the ending of their names, and the others by name."""
    found: dict[str, dict[str, StoredTensor]] = {}
    others: dict[str, StoredTensor] = {}
    for name, tensor in tensors.items():
        own = ADAPTER.sub(r"\1", name)
        ending = next((each for each in PARTS if own.endswith(each)), None)
        if ending is None or not own.startswith(prefix):
            others[name] = tensor
        else:
            found.setdefault(own.removeprefix(prefix).removesuffix(ending), {})[ending] = tensor
    return found, others


def _check(tensor: StoredTensor, expected: tuple[int, ...]) -> None:
    if tensor.is_stub and tensor.shape != expected and 0 not in expected:
        raise CheckpointError(
            f"{tensor.file}: {shortened(tensor.name)} has no numbers (shape {list(tensor.shape)}), as where DeepSpeed "
            "ZeRO-3 saves without gathering; save the adapter again with gathered weights"
        )
    if tensor.shape != expected:
        raise CheckpointError(
            f"{tensor.file}: {shortened(tensor.name)} has shape {list(tensor.shape)}, but the adapter's rank and the "
            f"base model ask for {list(expected)}; give the adapter's own base model and adapter_config.json"
        )
    tensor.check_dtype()
