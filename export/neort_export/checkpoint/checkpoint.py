"""A checkpoint in Hugging Face's layout: its configuration, its files and its tensors, read on demand.

Knows file formats; names and shapes are its architecture's. Knows nothing about graphs, quantization or bundles.
"""

from __future__ import annotations

import os

import torch

from neort.errors import ArgumentTypeError

from ..architectures import ARCHITECTURES, Dimensions
from ..errors import CheckpointError
from ..progress import Progress
from .adapters import Adapter
from .config import check_layers, read_config
from .hub import Parts, locate
from .names import read_names
from .remedies import refuse_adapter_beside
from .tensors import Floats, StoredTensor, open_tensors

__all__ = ["Checkpoint"]


class Checkpoint:
    """Tensors of a checkpoint by their state-dict names, converted to float32 as they are read.

    ``source`` is what was named, without a revision, ``path`` the folder, ``revision`` the hub commit or None,
    ``config`` transformers' configuration, ``architecture`` the family and ``dimensions`` the model's sizes;
    ``tokenizer_path`` is the folder with the tokenizer's files; ``adapter`` is what is merged into the weights, or
    None; ``tied`` says whether lm_head shares the token embedding's weights.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        revision: str | None = None,
        adapter: str | os.PathLike[str] | None = None,
        tokenizer: str | os.PathLike[str] | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Open a folder, or fetch a hub name such as ``EleutherAI/gpt-neo-125m`` into the hub's cache.

        ``revision`` is a branch, tag or commit of a hub name, which may follow the name after an @, too; ``adapter`` is
        a LoRA adapter, a folder or a hub name, which is merged into the weights as they are read; ``tokenizer`` is
        where the tokenizer's files are, a folder or a hub name, if they are not beside the weights. ``progress`` is
        told what is fetched.

        Raises CheckpointError when nothing is there, when its architecture is not one of `ARCHITECTURES`, or when its
        files do not hold the tensors that its configuration asks for, and these alone.
        """
        if not isinstance(revision, (str, type(None))):
            raise ArgumentTypeError(f"revision is a name or None, not {type(revision).__name__}")
        place = _place(source, "checkpoint")
        found = locate(place, revision, progress=progress)
        self.path, self.revision = found.path, found.commit
        self.source = found.name.repository if found.name else place
        self.tokenizer_path = self.path
        if tokenizer is not None:
            self.tokenizer_path = locate(_place(tokenizer, "tokenizer"), parts=Parts.TOKENIZER, progress=progress).path
        lora = None if adapter is None else locate(_place(adapter, "adapter"), parts=Parts.ADAPTER, progress=progress)
        self.config = read_config(self.path)
        if adapter is None:
            refuse_adapter_beside(self.path)
        self.architecture = ARCHITECTURES[self.config.model_type]
        self.dimensions: Dimensions = self.architecture.dimensions(self.config)
        self._linears = self.architecture.linear_weights(self.dimensions)
        check_layers(self.path, self.config, self.architecture)
        self._parameters, self.tied = self._read_parameters()
        self.adapter: Adapter | None = None
        if lora is not None:
            self.adapter = Adapter(lora.path, self.architecture, self.dimensions, name=lora.label)
            self._parameters, self.tied = self.adapter.merged(self._parameters, tied=self.tied)
        self.config.tie_word_embeddings = self.tied

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor, without reading it."""
        return self._parameters[name].shape

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Floats:
        """Read rows ``start:stop`` of a tensor as float32.

        Only these rows are read, but for a weight that files have transposed.

        Raises CheckpointError for NaN and infinite weights, which quantization would turn into ordinary numbers.
        """
        return self._parameters[name].read(start, stop)

    def tensor(self, name: str) -> torch.Tensor:
        """Read a whole tensor as float32. Raises CheckpointError for NaN and infinite weights."""
        return torch.from_numpy(self.rows(name))

    def expected_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return names and shapes of all tensors that the configuration asks for."""
        return self.architecture.shapes(self.dimensions, tied=self.tied)

    def is_linear(self, name: str) -> bool:
        """Say whether a tensor is the weight of a linear layer; the embeddings and the head are none."""
        return name in self._linears

    def _read_parameters(self) -> tuple[dict[str, StoredTensor], bool]:
        """The tensor of each parameter, the head's being the embedding where they are tied; and whether they are."""
        tensors = open_tensors(self.path, self.architecture.buffers)
        reading = read_names(self.path, self.config, self.architecture, self.dimensions, tensors)
        parameters = {}
        for name, expected in self.architecture.shapes(self.dimensions, tied=reading.tied).items():
            linear, tensor = self._linears.get(name), tensors[reading.stored[name]]
            parameters[name] = tensor.transposed() if linear and linear.transposed else tensor
            self._check_tensor(parameters[name], expected)
        if reading.tied:
            parameters[self.architecture.names.head] = parameters[self.architecture.names.token_embedding]
        return parameters, reading.tied

    def _check_tensor(self, tensor: StoredTensor, expected: tuple[int, ...]) -> None:
        if tensor.shape == expected:
            return tensor.check_dtype()
        found = f"{tensor.file}: tensor {tensor.name!r} has shape {tensor.as_in_file(tensor.shape)}"
        if tensor.is_stub and 0 not in expected:
            raise CheckpointError(
                f"{found} and none of its numbers, as where DeepSpeed ZeRO-3 saves without gathering; run DeepSpeed's "
                "zero_to_fp32.py in the training's checkpoint folder, or save with "
                "stage3_gather_16bit_weights_on_model_save"
            )
        if tensor.transposes and tensor.shape == expected[::-1]:
            linears = sorted({".".join(name.split(".")[-3:-1]) for name in self._linears})
            raise CheckpointError(
                f"{found}, which is {tensor.as_in_file(expected)} transposed: so torch's Linear has it, as in nanoGPT; "
                f"transpose the weights of {', '.join(linears)} in all layers, and save the file again"
            )
        raise CheckpointError(
            f"{found}, but config.json asks for {tensor.as_in_file(expected)}; use the config.json that belongs to "
            "these weights"
        )


def _place(value: object, what: str) -> str:
    """A folder's path or a name on the hub, as text. Raises ArgumentTypeError for what is neither."""
    place = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
    if not isinstance(place, str):
        raise ArgumentTypeError(f"{what} is a folder's path or a hub name, not {type(value).__name__}")
    return place
