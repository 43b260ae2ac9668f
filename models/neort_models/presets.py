"""The dimensions of published GPT-Neo and GPT-2 checkpoints, and the quality that their authors reported.

Knows no weights: a preset is enough to make a checkpoint of the same shape with random ones, or to reckon how
much memory the real one takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from .quality import (
    QUALITY_1_3B,
    QUALITY_2_7B,
    QUALITY_125M,
    QUALITY_GPT2,
    QUALITY_GPT2_LARGE,
    QUALITY_GPT2_MEDIUM,
    QUALITY_GPT2_XL,
    UNKNOWN,
    PublishedQuality,
)

__all__ = ["PRESETS", "Preset", "preset"]

Family = Literal["gpt_neo", "gpt2"]


@dataclass(frozen=True)
class Preset:
    """One published checkpoint: its name, its dimensions and its published quality."""

    name: str
    """The name used here, "gpt-neo-125m"."""
    hub_id: str
    """Its repository on the Hugging Face hub."""
    hidden_size: int
    num_layers: int
    num_heads: int
    published: PublishedQuality = UNKNOWN
    family: Family = "gpt_neo"
    """The ``model_type`` of its config.json."""
    vocab_size: int = 50257
    max_position_embeddings: int = 2048
    window_size: int | None = 256
    """How many keys a local layer sees, the token's own included; None in a family without local layers."""
    end_of_text_id: int = 50256
    tokenizer_hub_id: str | None = None
    """The repository with the tokenizer that it was trained with, where that is not its own."""

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_heads

    @property
    def intermediate_size(self) -> int:
        """Width of the MLP's inner layer."""
        return 4 * self.hidden_size

    @property
    def attention_layers(self) -> tuple[str, ...]:
        """The kind of each layer: "global" or "local" in turn, beginning with a global one; all "global" in GPT-2."""
        local = "global" if self.window_size is None else "local"
        return tuple(local if layer % 2 else "global" for layer in range(self.num_layers))

    @property
    def parameters(self) -> int:
        """Number of weights; lm_head is the token embedding and counts once."""
        width, inner = self.hidden_size, self.intermediate_size
        embeddings = (self.vocab_size + self.max_position_embeddings) * width
        biases = 4 if self.family == "gpt2" else 1  # GPT-Neo has one for the output only, none for q, k and v
        attention = 4 * width * width + biases * width
        mlp = 2 * width * inner + inner + width
        layer_norm = 2 * width
        return embeddings + self.num_layers * (attention + mlp + 2 * layer_norm) + layer_norm

    def config(self) -> dict[str, Any]:
        """Return the contents of config.json, fit for `transformers.AutoConfig.for_model(**...)`."""
        return {
            **(_gpt2_settings(self) if self.family == "gpt2" else _gpt_neo_settings(self)),
            "vocab_size": self.vocab_size,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": 1e-5,
            "initializer_range": 0.02,
            "bos_token_id": self.end_of_text_id,
            "eos_token_id": self.end_of_text_id,
            "tie_word_embeddings": True,
            "use_cache": True,
        }


def _gpt_neo_settings(known: Preset) -> dict[str, Any]:
    pairs, odd = divmod(known.num_layers, 2)
    return {
        "architectures": ["GPTNeoForCausalLM"],
        "model_type": "gpt_neo",
        "max_position_embeddings": known.max_position_embeddings,
        "hidden_size": known.hidden_size,
        "num_layers": known.num_layers,
        "num_heads": known.num_heads,
        "intermediate_size": None,
        "attention_types": [[["global", "local"], pairs]] * bool(pairs) + [[["global"], 1]] * odd,
        "attention_layers": list(known.attention_layers),
        "window_size": known.window_size,
        "attention_dropout": 0.0,
        "embed_dropout": 0.0,
        "resid_dropout": 0.0,
    }


def _gpt2_settings(known: Preset) -> dict[str, Any]:
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "n_positions": known.max_position_embeddings,
        "n_embd": known.hidden_size,
        "n_layer": known.num_layers,
        "n_head": known.num_heads,
        "n_inner": None,
        "attn_pdrop": 0.1,
        "embd_pdrop": 0.1,
        "resid_pdrop": 0.1,
        "scale_attn_weights": True,
    }


def _gpt_neo(size: str, width: int, layers: int, heads: int, published: PublishedQuality) -> Preset:
    return Preset(f"gpt-neo-{size.lower()}", f"EleutherAI/gpt-neo-{size}", width, layers, heads, published)


def _tiny_stories(size: str, width: int, layers: int, heads: int = 16) -> Preset:
    return Preset(
        f"tinystories-{size.lower()}",
        f"roneneldan/TinyStories-{size}",
        width,
        layers,
        heads,
        tokenizer_hub_id="EleutherAI/gpt-neo-125M",
    )


def _gpt2(
    name: str,
    width: int,
    layers: int,
    heads: int,
    published: PublishedQuality = UNKNOWN,
    owner: str = "openai-community",
) -> Preset:
    return Preset(
        name,
        f"{owner}/{name}",
        width,
        layers,
        heads,
        published,
        family="gpt2",
        max_position_embeddings=1024,
        window_size=None,
    )


PRESETS: dict[str, Preset] = {
    known.name: known
    for known in (
        _gpt_neo("125m", 768, 12, 12, QUALITY_125M),
        _gpt_neo("1.3B", 2048, 24, 16, QUALITY_1_3B),
        _gpt_neo("2.7B", 2560, 32, 20, QUALITY_2_7B),
        _tiny_stories("1M", 64, 8),
        _tiny_stories("3M", 128, 8),
        _tiny_stories("8M", 256, 8),
        _tiny_stories("28M", 512, 8),
        _tiny_stories("33M", 768, 4),
        _tiny_stories("1Layer-21M", 1024, 1),
        _tiny_stories("2Layers-33M", 1024, 2),
        _gpt2("distilgpt2", 768, 6, 12, owner="distilbert"),
        _gpt2("gpt2", 768, 12, 12, QUALITY_GPT2),
        _gpt2("gpt2-medium", 1024, 24, 16, QUALITY_GPT2_MEDIUM),
        _gpt2("gpt2-large", 1280, 36, 20, QUALITY_GPT2_LARGE),
        _gpt2("gpt2-xl", 1600, 48, 25, QUALITY_GPT2_XL),
    )
}
"""Every preset under its own name: EleutherAI's, TinyStories, GPT-2, each the smallest first."""


def preset(name: str) -> Preset:
    """Return the preset of that name or hub id, in upper or lower case.

    Raises ValueError, which names the known presets, for any other name.
    """
    for known in PRESETS.values():
        if name.lower() in (known.name, known.hub_id.lower()):
            return known
    raise ValueError(f"no preset named {name!r}; known: {', '.join(PRESETS)}, and their hub ids")
