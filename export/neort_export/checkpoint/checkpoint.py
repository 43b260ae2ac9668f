"""A checkpoint in Hugging Face's layout: its configuration, its files and its tensors, read on demand.

Knows file formats; names and shapes are its architecture's. Knows nothing about graphs, quantization or bundles.
"""

from __future__ import annotations

import os

import torch

from neort.errors import ArgumentTypeError
from neort.wording import shortened

from ..architectures import ARCHITECTURES, Dimensions
from ..errors import CheckpointError
from ..progress import Progress
from .config import check_layers, read_config
from .files import open_tensors
from .hub import Parts, locate
from .stored import Floats, StoredTensor

__all__ = ["Checkpoint"]

FLOATS = ("float32", "float16", "bfloat16")
NAMED = 3  # of the tensors that are left over


class Checkpoint:
    """Tensors of a checkpoint by their state-dict names, converted to float32 as they are read.

    ``source`` is what was named, without a revision, ``path`` the folder, ``revision`` the hub commit or None,
    ``config`` transformers' configuration, ``architecture`` the family and ``dimensions`` the model's sizes;
    ``tokenizer_path`` is the folder with the tokenizer's files; ``adapter_source`` is the hub name, or the folder's
    name, of an adapter that is merged in, or None.
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
        self.adapter_source: str | None = None
        if adapter is not None:
            found = locate(_place(adapter, "adapter"), parts=Parts.ADAPTER, progress=progress)
            adapter, self.adapter_source = found.path, str(found.name or found.path.name)
        self.config = read_config(self.path)
        self.architecture = ARCHITECTURES[self.config.model_type]
        self.dimensions: Dimensions = self.architecture.dimensions(self.config)
        self._tensors = open_tensors(self.path)
        self._linears = self.architecture.linear_weights(self.dimensions)
        self._check_tensors()
        self._refuse_unexpected()
        check_layers(self.path, self.config, self.architecture)

    @property
    def tied(self) -> bool:
        """Whether lm_head shares the token embedding's weights."""
        return bool(self.config.tie_word_embeddings) or self.architecture.names.head not in self._tensors

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor, without reading it."""
        return self._tensor(name).shape

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Floats:
        """Read rows ``start:stop`` of a tensor as float32.

        Only these rows are read, but for a weight that files have transposed.

        Raises CheckpointError for NaN and infinite weights, which quantization would turn into ordinary numbers.
        """
        return self._tensor(name).read(start, stop)

    def tensor(self, name: str) -> torch.Tensor:
        """Read a whole tensor as float32. Raises CheckpointError for NaN and infinite weights."""
        return torch.from_numpy(self.rows(name))

    def expected_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return names and shapes of all tensors that the configuration asks for."""
        return self.architecture.shapes(self.dimensions, tied=self.tied)

    def is_linear(self, name: str) -> bool:
        """Say whether a tensor is the weight of a linear layer; the embeddings and the head are none."""
        return name in self._linears

    def _tensor(self, name: str) -> StoredTensor:
        tensor = self._tensors[self._stored_name(name)]
        linear = self._linears.get(name)
        return tensor.transposed() if linear and linear.transposed else tensor

    def _stored_name(self, name: str) -> str:
        """Name in the files: a tied head is the embedding; those of a bare model have no prefix."""
        names = self.architecture.names
        if name == names.head and self.tied:
            name = names.token_embedding
        return name if name in self._tensors else name.removeprefix(names.prefix)

    def _check_tensors(self) -> None:
        for name, expected in self.expected_shapes().items():
            if self._stored_name(name) not in self._tensors:
                raise CheckpointError(f"{self.path} has no tensor {name!r}; the checkpoint is incomplete")
            tensor = self._tensor(name)
            if tensor.shape != expected:
                raise CheckpointError(
                    f"{self.path}: tensor {name!r} has shape {list(tensor.shape)}, but config.json "
                    f"asks for {list(expected)}; use the config.json that belongs to these weights"
                )
            if tensor.dtype not in FLOATS:
                raise CheckpointError(
                    f"{self.path}: tensor {name!r} is {tensor.dtype}; "
                    "export reads float32, float16 and bfloat16 checkpoints"
                )

    def _refuse_unexpected(self) -> None:
        """Raises CheckpointError for tensors that the model has no place for, such as those of further layers."""
        read = {self._stored_name(name) for name in self.expected_shapes()} | {self.architecture.names.head}
        left = [n for n in self._tensors if n not in read and not n.endswith(self.architecture.buffers)]
        if left:
            named = ", ".join(shortened(name) for name in left[:NAMED])
            others = f" and {len(left) - NAMED} more" if len(left) > NAMED else ""
            raise CheckpointError(
                f"{self.path} has tensors for which its config.json has no place, and which the export would leave "
                f"out: {named}{others}; use the config.json that belongs "
                "to these weights, or save the checkpoint without these tensors if they are no part of the model"
            )


def _place(value: object, what: str) -> str:
    """A folder's path or a name on the hub, as text. Raises ArgumentTypeError for what is neither."""
    place = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
    if not isinstance(place, str):
        raise ArgumentTypeError(f"{what} is a folder's path or a hub name, not {type(value).__name__}")
    return place
