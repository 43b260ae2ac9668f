"""GPT-2: one linear layer for q, k and v, weights that files have as [in, out], scaled scores, no windows.

transformers' implementation is the reference:
https://github.com/huggingface/transformers/blob/main/src/transformers/models/gpt2/modeling_gpt2.py
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from .architecture import Architecture, Dimensions, Linear, TensorNames

if TYPE_CHECKING:
    import torch

__all__ = ["GPT2"]

# What makes the model; reorder_and_upcast_attn orders products for types below float32, and changes none in float32.
SETTINGS = (
    "activation_function",
    "add_cross_attention",
    "attn_pdrop",
    "bos_token_id",
    "embd_pdrop",
    "eos_token_id",
    "hidden_size",
    "initializer_range",
    "layer_norm_epsilon",
    "max_position_embeddings",
    "n_embd",
    "n_head",
    "n_inner",
    "n_layer",
    "n_positions",
    "num_attention_heads",
    "num_hidden_layers",
    "resid_pdrop",
    "scale_attn_by_inverse_layer_idx",
    "scale_attn_weights",
    "tie_word_embeddings",
    "vocab_size",
)


class GPT2(Architecture):
    """OpenAI's GPT-2, and what has its shape.

    Files of its first years have the buffers ``attn.bias`` and ``attn.masked_bias`` besides, the attention mask and
    what it fills in. OpenAI's own have no ``transformer.`` before their names.
    """

    model_type = "gpt2"
    inner_size = "n_inner"
    attribute_map: ClassVar = {
        "hidden_size": "n_embd",
        "max_position_embeddings": "n_positions",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    }
    buffers = (".attn.bias", ".attn.masked_bias")
    names = TensorNames(
        prefix="transformer.",
        token_embedding="transformer.wte.weight",
        position_embedding="transformer.wpe.weight",
        layers="transformer.h",
        norms=("ln_1", "ln_2"),
        query_key_value=("attn.c_attn",),
        packed_query_key_value="attn.c_attn",
        attention_output="attn.c_proj",
        mlp_input="mlp.c_fc",
        mlp_output="mlp.c_proj",
        final_norm="transformer.ln_f",
        head="lm_head.weight",
    )

    def read_config(self, settings: dict[str, Any]) -> Any:
        """Return a GPT2Config."""
        from transformers import GPT2Config

        return GPT2Config.from_dict({name: settings[name] for name in SETTINGS if name in settings})

    def layers_in_turn(self, num_layers: int) -> dict[str, Any]:
        """Return the settings of so many layers, which are all alike."""
        return {"n_layer": num_layers}

    def complaint(self, config: Any) -> str:
        """Say whether the model is a decoder alone."""
        if config.add_cross_attention:
            return (
                "add_cross_attention is true: such a model reads an encoder's output, and neort runs decoders alone; "
                "export one without cross-attention"
            )
        return ""

    def remark(self, config: Any) -> str:
        """Say which settings transformers 4 leaves out in its default attention."""
        import transformers

        settings = {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False}
        others = [
            f"{name} is {getattr(config, name)}" for name, usual in settings.items() if getattr(config, name) != usual
        ]
        if not others or int(transformers.__version__.partition(".")[0]) >= 5:
            return ""
        return (
            f"{' and '.join(others)}, which the bundle heeds, as transformers 5 does; transformers 4 does so with "
            "attn_implementation='eager' only, and computes another model by default"
        )

    def attention_scale(self, config: Any, layer: int) -> float:
        """Return 1 over the root of the head's width, and over the layer's number where the configuration says so."""
        scale: float = (config.n_embd // config.n_head) ** -0.5 if config.scale_attn_weights else 1.0
        return scale / (layer + 1) if config.scale_attn_by_inverse_layer_idx else scale

    def linears(self, dimensions: Dimensions) -> tuple[Linear, ...]:
        """Return c_attn and c_proj of attention, c_fc and c_proj of the MLP."""
        hidden, inner = dimensions.hidden_size, dimensions.intermediate_size
        return (
            Linear(self.names.packed_query_key_value, 3 * hidden, hidden, transposed=True),
            Linear(self.names.attention_output, hidden, hidden, transposed=True),
            Linear(self.names.mlp_input, inner, hidden, transposed=True),
            Linear(self.names.mlp_output, hidden, inner, transposed=True),
        )

    def causal_lm(self, config: Any) -> Any:
        """Make a GPT2LMHeadModel."""
        from transformers import GPT2LMHeadModel

        return _with_linears(GPT2LMHeadModel(config)).eval()

    def attentions(self, model: Any) -> list[Any]:
        """Return the GPT2Attention of each layer."""
        return [layer.attn for layer in model.transformer.h]

    def project(self, attention: Any, hidden: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Apply c_attn."""
        return (attention.c_attn(hidden),)

    def project_back(self, attention: Any, mixed: torch.Tensor) -> torch.Tensor:
        """Apply c_proj."""
        output: torch.Tensor = attention.c_proj(mixed)
        return output

    def layer(self, config: Any, index: int) -> Any:
        """Make a GPT2Block."""
        from transformers.models.gpt2.modeling_gpt2 import GPT2Block

        return _with_linears(GPT2Block(config, layer_idx=index)).eval()

    def run_layer(self, layer: Any, hidden: torch.Tensor) -> torch.Tensor:
        """Run a transformer layer under a causal mask: transformers 5 leaves it to the model, releases before do not.

        Masked twice is masked. Before transformers 5 a layer returned a tuple.
        """
        import torch

        size = hidden.shape[1]
        lowest = torch.full((size, size), torch.finfo(hidden.dtype).min, dtype=hidden.dtype)
        output: Any = layer(hidden, attention_mask=lowest.triu(1)[None, None])
        states: torch.Tensor = output if isinstance(output, torch.Tensor) else output[0]
        return states


def _with_linears(module: Any) -> Any:
    """Let a module have torch.nn.Linear, with weights [out, in], where it has transformers' Conv1D."""
    import torch
    from transformers.pytorch_utils import Conv1D

    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Conv1D):
                columns, rows = child.weight.shape
                setattr(parent, name, torch.nn.Linear(columns, rows))
    return module
