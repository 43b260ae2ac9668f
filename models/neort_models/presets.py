"""The dimensions of the GPT-Neo checkpoints that EleutherAI published, and the quality they reported.

Knows no weights: a preset is enough to make a checkpoint of the same shape with random ones, or to reckon how
much memory the real one takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["PRESETS", "Preset", "PublishedQuality", "preset"]


@dataclass(frozen=True)
class PublishedQuality:
    """What the authors measured, to compare a bundle with; None where no figure is recorded here."""

    wikitext_perplexity: float | None = None
    """Per word, over whole WikiText documents."""
    pile_bits_per_byte: float | None = None
    """Negative log-likelihood / (ln 2 x UTF-8 bytes) on the Pile."""
    lambada_accuracy: float | None = None
    """Share of last words guessed right, in percent."""
    source: str = "EleutherAI's model card"
    """Where the figures stand."""


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
    published: PublishedQuality
    vocab_size: int = 50257
    max_position_embeddings: int = 2048
    window_size: int = 256
    """How many keys a local layer sees, the token's own included."""
    end_of_text_id: int = 50256

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
        """The kind of each layer, "global" or "local" in turn, beginning with a global one."""
        return tuple("local" if layer % 2 else "global" for layer in range(self.num_layers))

    @property
    def parameters(self) -> int:
        """Number of weights; lm_head is the token embedding and counts once."""
        width, inner = self.hidden_size, self.intermediate_size
        embeddings = (self.vocab_size + self.max_position_embeddings) * width
        attention = 4 * width * width + width  # q, k and v have no bias, out_proj has one
        mlp = 2 * width * inner + inner + width
        layer_norm = 2 * width
        return embeddings + self.num_layers * (attention + mlp + 2 * layer_norm) + layer_norm

    def config(self) -> dict[str, Any]:
        """Return the contents of config.json, fit for `transformers.GPTNeoConfig(**...)`."""
        return {
            "architectures": ["GPTNeoForCausalLM"],
            "model_type": "gpt_neo",
            "vocab_size": self.vocab_size,
            "max_position_embeddings": self.max_position_embeddings,
            "hidden_size": self.hidden_size,
            "num_layers": self.num_layers,
            "num_heads": self.num_heads,
            "intermediate_size": None,
            "attention_types": [[["global", "local"], self.num_layers // 2]],
            "attention_layers": list(self.attention_layers),
            "window_size": self.window_size,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": 1e-5,
            "initializer_range": 0.02,
            "attention_dropout": 0.0,
            "embed_dropout": 0.0,
            "resid_dropout": 0.0,
            "bos_token_id": self.end_of_text_id,
            "eos_token_id": self.end_of_text_id,
            "tie_word_embeddings": True,
            "use_cache": True,
        }


_QUALITY_125M = PublishedQuality(wikitext_perplexity=32.29, lambada_accuracy=37.4)
_QUALITY_1_3B = PublishedQuality(wikitext_perplexity=13.10, lambada_accuracy=57.2, pile_bits_per_byte=0.7527)
_QUALITY_2_7B = PublishedQuality(wikitext_perplexity=11.39, lambada_accuracy=62.2, pile_bits_per_byte=0.7165)

PRESETS: dict[str, Preset] = {
    known.name: known
    for known in (
        Preset("gpt-neo-125m", "EleutherAI/gpt-neo-125m", 768, 12, 12, _QUALITY_125M),
        Preset("gpt-neo-1.3b", "EleutherAI/gpt-neo-1.3B", 2048, 24, 16, _QUALITY_1_3B),
        Preset("gpt-neo-2.7b", "EleutherAI/gpt-neo-2.7B", 2560, 32, 20, _QUALITY_2_7B),
    )
}
"""Every preset under its own name, the smallest first."""


def preset(name: str) -> Preset:
    """Return the preset of that name or hub id, in upper or lower case.

    Raises ValueError, which names the known presets, for any other name.
    """
    for known in PRESETS.values():
        if name.lower() in (known.name, known.hub_id.lower()):
            return known
    raise ValueError(f"no preset named {name!r}; known: {', '.join(PRESETS)}, and their hub ids")
