"""GPT-Neo: local layers that see a window beside global ones, scores that nothing divides, q, k and v without a bias.

transformers' implementation is the reference:
https://github.com/huggingface/transformers/blob/main/src/transformers/models/gpt_neo/modeling_gpt_neo.py
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from neort.wording import shortened

from .architecture import Architecture, Dimensions, Linear, TensorNames

if TYPE_CHECKING:
    import torch

__all__ = ["GPTNeo"]

KINDS = {"global", "local"}
IN_TURN = ("global", "local")
MOST_LAYERS = 10_000
DEFAULT_LAYERS = 24  # where config.json does not say

# What makes the model; other settings, num_labels for one, may ask transformers for work that no export needs.
SETTINGS = (
    "activation_function",
    "attention_layers",
    "attention_types",
    "bos_token_id",
    "eos_token_id",
    "hidden_size",
    "intermediate_size",
    "layer_norm_epsilon",
    "max_position_embeddings",
    "num_attention_heads",
    "num_heads",
    "num_hidden_layers",
    "num_layers",
    "tie_word_embeddings",
    "vocab_size",
    "window_size",
)


class GPTNeo(Architecture):
    """EleutherAI's GPT-Neo.

    Files of 2021 have the buffers ``attn.attention.bias`` and ``attn.attention.masked_bias`` besides, the attention
    mask and what it fills in; the mask follows from the configuration.
    """

    model_type = "gpt_neo"
    inner_size = "intermediate_size"
    attribute_map: ClassVar = {"num_attention_heads": "num_heads", "num_hidden_layers": "num_layers"}
    sizes = (*Architecture.sizes, "window_size")
    buffers = (".attn.attention.bias", ".attn.attention.masked_bias")
    names = TensorNames(
        prefix="transformer.",
        token_embedding="transformer.wte.weight",
        position_embedding="transformer.wpe.weight",
        layers="transformer.h",
        norms=("ln_1", "ln_2"),
        query_key_value=("attn.attention.q_proj", "attn.attention.k_proj", "attn.attention.v_proj"),
        packed_query_key_value="attn.attention.qkv_proj",
        attention_output="attn.attention.out_proj",
        mlp_input="mlp.c_fc",
        mlp_output="mlp.c_proj",
        final_norm="transformer.ln_f",
        head="lm_head.weight",
    )

    def read_config(self, settings: dict[str, Any]) -> Any:
        """Return a GPTNeoConfig, which makes ``attention_layers``, a kind per layer, of ``attention_types``."""
        from transformers import GPTNeoConfig

        known = {name: settings[name] for name in SETTINGS if name in settings}
        layers = _layers(settings)
        if layers is not None:  # of which transformers 4 and 5 make the same
            known |= {"attention_types": [[layers, 1]], "attention_layers": layers}
        return GPTNeoConfig.from_dict(known)

    def layers_in_turn(self, num_layers: int) -> dict[str, Any]:
        """Return the settings of so many layers, global and local in turn, as config.json has them."""
        pairs, odd = divmod(num_layers, len(IN_TURN))
        types: list[Any] = [[list(IN_TURN), pairs]] * bool(pairs) + [[list(IN_TURN[:1]), 1]] * odd
        layers = [kind for kinds, times in types for kind in kinds * times]
        return {"num_layers": num_layers, "attention_types": types, "attention_layers": layers}

    def complaint(self, config: Any) -> str:
        """Say whether the kinds of layers are as many as layers, and known."""
        return _complaint_of(config.attention_layers, config.num_layers)

    def window_size(self, config: Any) -> int:
        """Return how many keys a local layer sees, the position's own included."""
        size: int = config.window_size
        return size

    def attention_layers(self, config: Any) -> tuple[str, ...]:
        """Return "global" or "local" for each layer."""
        return tuple(config.attention_layers)

    def attention_scale(self, config: Any, layer: int) -> float:
        """Return 1: GPT-Neo does not divide its scores by the root of the head's width."""
        return 1.0

    def linears(self, dimensions: Dimensions) -> tuple[Linear, ...]:
        """Return q, k, v and out_proj of attention, c_fc and c_proj of the MLP."""
        hidden, inner = dimensions.hidden_size, dimensions.intermediate_size
        return (
            *(Linear(name, hidden, hidden, bias=False) for name in self.names.query_key_value),
            Linear(self.names.attention_output, hidden, hidden),
            Linear(self.names.mlp_input, inner, hidden),
            Linear(self.names.mlp_output, hidden, inner),
        )

    def causal_lm(self, config: Any) -> Any:
        """Make a GPTNeoForCausalLM."""
        from transformers import GPTNeoForCausalLM

        return GPTNeoForCausalLM(config).eval()

    def attentions(self, model: Any) -> list[Any]:
        """Return the GPTNeoSelfAttention of each layer."""
        return [layer.attn.attention for layer in model.transformer.h]

    def replace_mixing(self, attention: Any, mix: Callable[..., Any]) -> None:
        """Let ``mix(query, key, value, ...)``, [B, H, S, D] each, make the values of attention, and None as weights."""
        attention._attn = mix

    def mask(self, attention: Any, length: int) -> torch.Tensor:
        """Return which keys each position sees, bool [1, 1, S, S]: those of its window in a local layer."""
        mask: torch.Tensor = attention.bias[:, :, :length, :length]
        return mask

    def project(self, attention: Any, hidden: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Apply q_proj, k_proj and v_proj."""
        return tuple(linear(hidden) for linear in (attention.q_proj, attention.k_proj, attention.v_proj))

    def project_back(self, attention: Any, mixed: torch.Tensor) -> torch.Tensor:
        """Apply out_proj."""
        output: torch.Tensor = attention.out_proj(mixed)
        return output

    def layer(self, config: Any, index: int) -> Any:
        """Make a GPTNeoBlock, whose mask is that of the layer's kind."""
        from transformers.models.gpt_neo.modeling_gpt_neo import GPTNeoBlock

        return GPTNeoBlock(config, index).eval()


def _layers(settings: dict[str, Any]) -> list[str] | None:
    """The kind of each layer, as a config.json has it; None where it leaves that to transformers.

    Raises ValueError for what is none.
    """
    types, layers = settings.get("attention_types"), settings.get("attention_layers")
    if types and not _are_types(types):
        raise ValueError(
            f"attention_types is {shortened(types)}; it must be pairs of a list of kinds and how often it "
            f"comes, of at most {MOST_LAYERS:,} layers"
        )
    if "attention_layers" not in settings:
        if "attention_types" not in settings:
            return None
        layers = [kind for kinds, times in types or () for kind in kinds * times]
    complaint = _complaint_of(layers, settings.get("num_layers", settings.get("num_hidden_layers", DEFAULT_LAYERS)))
    if complaint:
        raise ValueError(complaint)
    return list(layers or ())


def _complaint_of(layers: Any, count: int) -> str:
    """What is wrong with the kinds of layers; empty where nothing is."""
    if not isinstance(layers, (list, tuple)) or not all(isinstance(kind, str) for kind in layers):
        return f"attention_layers is {shortened(layers)}; it must be a list of 'global' and 'local'"
    if len(layers) != count:
        return f"attention_layers (or attention_types) names {len(layers):,} layers, num_layers is {count:,}"
    unknown = set(layers) - KINDS
    return f"attention_layers are 'global' or 'local', not {shortened(sorted(unknown))}" if unknown else ""


def _are_types(types: object) -> bool:
    """Whether config.json's attention_types are pairs of kinds and counts, for a model that can be."""
    pairs: Any = types if isinstance(types, (list, tuple)) else [None]
    sound = all(
        isinstance(pair, (list, tuple))
        and len(pair) == 2
        and isinstance(pair[0], (list, tuple))
        and all(isinstance(kind, str) for kind in pair[0])
        and type(pair[1]) is int
        and 0 <= pair[1] <= MOST_LAYERS
        for pair in pairs
    )
    return sound and sum(len(kinds) * times for kinds, times in pairs) <= MOST_LAYERS
