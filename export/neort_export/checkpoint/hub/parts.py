"""Which of a repository's files are needed, and what is wrong with one that has none of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from enum import Enum

__all__ = ["ADAPTER_CONFIG", "CARD", "CONFIG", "Parts", "other_kinds", "wanted_files", "weight_folders", "weight_index"]

CONFIG, CARD = "config.json", "README.md"
SAFETENSORS, PICKLE = "model.safetensors", "pytorch_model.bin"
INDEX = ".index.json"
TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
VERSIONED_TOKENIZER = re.compile(r"tokenizer\.\d.*\.json")  # for one release of transformers and later ones
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
KINDS = {
    r".*\.gguf": "GGUF files, which llama.cpp reads",
    r"(tf_model.*\.h5|.*\.ckpt(\..*)?)": "TensorFlow's weights",
    r"flax_model.*\.msgpack": "Flax's weights",
    r"rust_model\.ot": "weights for Rust",
    r".*\.onnx(_data)?": "ONNX graphs",
}


class Parts(Enum):
    """What is wanted of a repository: all of a model, its tokenizer alone, or an adapter."""

    MODEL = (CONFIG, "generation_config.json", CARD, "adapter_config.json", *TOKENIZER)
    TOKENIZER = (CONFIG, *TOKENIZER)
    ADAPTER = (ADAPTER_CONFIG, CARD)

    @property
    def described(self) -> str:
        """What the folder of it holds, in words."""
        return {
            Parts.MODEL: "config.json and the weights",
            Parts.TOKENIZER: "tokenizer.json, or vocab.json with merges.txt",
            Parts.ADAPTER: "adapter_config.json and adapter_model.safetensors",
        }[self]


def weight_index(listed: Collection[str]) -> str | None:
    """The index of sharded weights that has to be read to know the shards; None where there is a single file."""
    for single in (SAFETENSORS, PICKLE):
        if single in listed:
            return None
        if single + INDEX in listed:
            return single + INDEX
    return None


def wanted_files(parts: Parts, listed: Collection[str], shards: Callable[[str], Collection[str]]) -> list[str]:
    """The files of a repository that are needed, as far as it has them; an empty list where it has no weights.

    ``shards`` says which files an index names. Safetensors go before pickles, as in transformers.
    """
    small = [name for name in parts.value if name in listed]
    if parts is not Parts.ADAPTER:
        small += sorted(filter(VERSIONED_TOKENIZER.fullmatch, listed))
    if parts is Parts.TOKENIZER:
        return small if set(small) & set(TOKENIZER) else []
    if parts is Parts.ADAPTER:
        weights = [name for name in ADAPTER_WEIGHTS if name in listed][:1]
    elif (index := weight_index(listed)) is not None:
        weights = [index, *sorted(name for name in set(shards(index)) if name in listed)]
    else:
        weights = [name for name in (SAFETENSORS, PICKLE) if name in listed][:1]
    return [*small, *weights] if weights else []


def other_kinds(listed: Collection[str]) -> list[str]:
    """What a repository without weights that are read here has instead, in words."""
    return [words for pattern, words in KINDS.items() if any(re.fullmatch(pattern, name) for name in listed)]


def weight_folders(listed: Collection[str]) -> list[str]:
    """The folders of a repository that have weights."""
    parts = (file.rpartition("/") for file in listed)
    return sorted({folder for folder, _, name in parts if folder and name in (SAFETENSORS, PICKLE)})
