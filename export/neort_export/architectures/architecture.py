"""What the exporter must know about a family of models; each family fills it in.

Weights of linear layers are [N, K] everywhere in the exporter, one row per output channel, as torch.nn.Linear has
them. A family whose files have them the other way round says so in `Linear.transposed`, and its modules are made of
torch.nn.Linear all the same.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import torch

__all__ = ["Architecture", "Dimensions", "Linear", "TensorNames", "stored_head_dim"]

HEAD_DIM_STEP = 8  # of widths that onnxruntime's GroupQueryAttention takes


def stored_head_dim(head_dim: int) -> int:
    """Return how wide heads of this width are in the graph: filled up with zeros to a multiple of 8."""
    return -(-head_dim // HEAD_DIM_STEP) * HEAD_DIM_STEP


@dataclass(frozen=True)
class Dimensions:
    """Sizes of one model, whatever its configuration calls them.

    ``window_size`` is the number of keys that a local layer sees, all positions in a family without such layers;
    ``attention_layers`` is one of "global" and "local" per layer.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    max_position_embeddings: int
    window_size: int
    attention_layers: tuple[str, ...]

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_heads

    @property
    def stored_head_dim(self) -> int:
        """Width of a head in the graph and in its cache."""
        return stored_head_dim(self.head_dim)


@dataclass(frozen=True)
class Linear:
    """A linear layer of a transformer layer, by its name there: a weight [rows, columns] and, mostly, a bias [rows].

    ``transposed`` says that files have its weight as [columns, rows].
    """

    name: str
    rows: int
    columns: int
    bias: bool = True
    transposed: bool = False


@dataclass(frozen=True)
class TensorNames:
    """State-dict names in transformers' causal language model.

    ``prefix`` stands before all but the head's, and files of a bare model leave it out. ``layers`` is the list of
    transformer layers; the names from ``norms`` to ``mlp_output`` are modules of one of them. ``norms`` are the layer
    norms before attention and before the MLP.

    ``query_key_value`` are the linear layers that read attention's input: one each for query, key and value, or a
    single one for all three. The graph has one product for them, named ``packed_query_key_value``.
    """

    prefix: str
    token_embedding: str
    position_embedding: str
    layers: str
    norms: tuple[str, ...]
    query_key_value: tuple[str, ...]
    packed_query_key_value: str
    attention_output: str
    mlp_input: str
    mlp_output: str
    final_norm: str
    head: str

    def layer(self, index: int) -> str:
        """Return what the names of a layer's tensors begin with."""
        return f"{self.layers}.{index}."


class Architecture(abc.ABC):
    """A family of decoders with learned positions, layer norms before attention and MLP, and a head without a bias.

    ``model_type`` is the one of config.json; ``buffers`` are how the names of tensors end which files may have and no
    model needs; ``inner_size`` and ``sizes`` are the names that transformers has for the MLP's width, and for those
    settings which must be whole numbers of at least 1; ``attribute_map``, as transformers calls it, tells under which
    names config.json has settings that every family has.
    """

    model_type: ClassVar[str]
    names: ClassVar[TensorNames]
    inner_size: ClassVar[str]
    attribute_map: ClassVar[dict[str, str]]
    buffers: ClassVar[tuple[str, ...]] = ()
    sizes: ClassVar[tuple[str, ...]] = (
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "max_position_embeddings",
    )

    # The configuration

    @abc.abstractmethod
    def read_config(self, settings: dict[str, Any]) -> Any:
        """Return transformers' configuration of the contents of a config.json; raises what transformers raises."""

    @abc.abstractmethod
    def layers_in_turn(self, num_layers: int) -> dict[str, Any]:
        """Return the settings of so many layers, of each kind in turn, as config.json has them."""

    @abc.abstractmethod
    def complaint(self, config: Any) -> str:
        """Say what the family's own settings contradict, once all ``sizes`` are sound; empty where nothing does."""

    def remark(self, config: Any) -> str:
        """Say where the installed transformers computes otherwise by default; empty where it does not."""
        return ""

    def dimensions(self, config: Any) -> Dimensions:
        """Return the sizes of a sound configuration; the MLP is four times as wide as the hidden states by default."""
        hidden = config.hidden_size
        return Dimensions(
            vocab_size=config.vocab_size,
            hidden_size=hidden,
            intermediate_size=int(getattr(config, self.inner_size) or 4 * hidden),
            num_layers=config.num_hidden_layers,
            num_heads=config.num_attention_heads,
            max_position_embeddings=config.max_position_embeddings,
            window_size=self.window_size(config),
            attention_layers=self.attention_layers(config),
        )

    def window_size(self, config: Any) -> int:
        """Return how many keys a local layer sees: all positions in a family without such layers."""
        size: int = config.max_position_embeddings
        return size

    def attention_layers(self, config: Any) -> tuple[str, ...]:
        """Return the kind of each layer: global in a family without local ones."""
        count: int = config.num_hidden_layers
        return ("global",) * count

    @abc.abstractmethod
    def attention_scale(self, config: Any, layer: int) -> float:
        """Return the factor of a layer's attention scores."""

    def norm_epsilon(self, config: Any) -> float:
        """Return what the layer norms add to the variance."""
        return float(config.layer_norm_epsilon)

    # The tensors

    @abc.abstractmethod
    def linears(self, dimensions: Dimensions) -> tuple[Linear, ...]:
        """Return the linear layers of each transformer layer."""

    def shapes(self, dimensions: Dimensions, *, tied: bool) -> dict[str, tuple[int, ...]]:
        """Return the shapes of all tensors by name; a head that is ``tied`` to the token embedding has none."""
        names, hidden = self.names, dimensions.hidden_size
        shapes: dict[str, tuple[int, ...]] = {
            names.token_embedding: (dimensions.vocab_size, hidden),
            names.position_embedding: (dimensions.max_position_embeddings, hidden),
        }
        for index in range(dimensions.num_layers):
            for norm in names.norms:
                shapes |= _norm_shapes(names.layer(index) + norm, hidden)
            for linear in self.linears(dimensions):
                shapes |= _linear_shapes(names.layer(index) + linear.name, linear)
        shapes |= _norm_shapes(names.final_norm, hidden)
        if not tied:
            shapes[names.head] = (dimensions.vocab_size, hidden)
        return shapes

    def linear_weights(self, dimensions: Dimensions) -> dict[str, Linear]:
        """Return the linear layers of all transformer layers by the names of their weights."""
        layers = map(self.names.layer, range(dimensions.num_layers))
        linears = self.linears(dimensions)
        return {f"{layer}{linear.name}.weight": linear for layer in layers for linear in linears}

    def multiplied_as(self, weight: str) -> str:
        """Return the name under which the graph multiplies with the weight ``weight`` of a linear layer.

        Those for query, key and value are one weight there.
        """
        for suffix, packed in self._packed.items():
            if weight.endswith(suffix):
                return weight.removesuffix(suffix) + packed
        return weight

    @cached_property
    def _packed(self) -> Mapping[str, str]:
        packed = f".{self.names.packed_query_key_value}.weight"
        return {f".{name}.weight": packed for name in self.names.query_key_value}

    # transformers' modules, whose linear layers are torch.nn.Linear

    @abc.abstractmethod
    def causal_lm(self, config: Any) -> Any:
        """Make the causal language model, in evaluation mode."""

    @abc.abstractmethod
    def attentions(self, model: Any) -> list[Any]:
        """Return the modules, one a layer, whose forward makes queries, keys and values and mixes them."""

    @abc.abstractmethod
    def project(self, attention: Any, hidden: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Make queries, keys and values of the hidden states [B, S, K]: three of [B, S, K], or one of [B, S, 3K]."""

    @abc.abstractmethod
    def project_back(self, attention: Any, mixed: torch.Tensor) -> torch.Tensor:
        """Make the output of an attention module, [B, S, K], of the values that it has mixed, [B, S, K]."""

    @abc.abstractmethod
    def layer(self, config: Any, index: int) -> Any:
        """Make one transformer layer, in evaluation mode."""

    def run_layer(self, layer: Any, hidden: torch.Tensor) -> torch.Tensor:
        """Run a transformer layer on whole sequences of hidden states, [B, S, K] to [B, S, K]."""
        output: torch.Tensor = layer(hidden)[0]
        return output


def _norm_shapes(name: str, size: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def _linear_shapes(name: str, linear: Linear) -> dict[str, tuple[int, ...]]:
    weight: dict[str, tuple[int, ...]] = {f"{name}.weight": (linear.rows, linear.columns)}
    return weight | ({f"{name}.bias": (linear.rows,)} if linear.bias else {})
