"""The names of a checkpoint's tensors: which is read for which parameter, and whether that is all that the files hold.

transformers' loader says which; the export refuses what it would fill with random numbers or leave out, but for a head
that it ties to the embedding, which a warning names.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...architectures import Architecture, Dimensions
from ...errors import CheckpointError
from ..reading import said
from ..tensors import StoredTensor
from .complaints import Names, complaint, listed
from .loading import as_transformers_loads

__all__ = ["Reading", "read_names"]

HEADS_BESIDE = {  # what training adds beside the language model
    "v_head.": "a value head",  # TRL
    "multiple_choice_head.": "a head that chooses between texts",  # GPT2DoubleHeadsModel
}


@dataclass(frozen=True)
class Reading:
    """``stored`` are the names in the files by those of the parameters; ``tied``: lm_head is the token embedding."""

    stored: Mapping[str, str]
    tied: bool


def read_names(
    folder: Path,
    config: Any,
    architecture: Architecture,
    dimensions: Dimensions,
    tensors: Mapping[str, StoredTensor],
) -> Reading:
    """Find the tensor of each parameter, as transformers does.

    Warns of tensors that are left out, such as a trained head beside a configuration that ties it.

    Raises CheckpointError where a parameter has none, and for tensors that no parameter takes.
    """
    tied = bool(config.tie_word_embeddings)
    expected = architecture.shapes(dimensions, tied=tied)
    names = architecture.names
    facts = Names(folder, config, architecture, expected, tensors)
    stored = _loaded(facts)
    if tied and names.token_embedding not in stored and names.head in tensors:
        stored |= {names.token_embedding: names.head, names.head: names.head}  # transformers 4 leaves both empty
    missing = [name for name in expected if name not in stored]
    known = {*stored.values(), *(n for n in tensors if n.endswith(architecture.buffers) or (tied and n == names.head))}
    left = [name for name in tensors if name not in known]
    beside = {what: [name for name in left if name.startswith(start)] for start, what in HEADS_BESIDE.items()}
    left = [name for name in left if not name.startswith(tuple(HEADS_BESIDE))]
    if missing or left:
        raise CheckpointError(complaint(facts, missing, left))
    for what, head in beside.items():
        if head:
            warnings.warn(
                f"{tensors[head[0]].file}: {listed(head)} belong to {what}, not to the language model; the bundle goes "
                "without",
                UserWarning,
                stacklevel=4,
            )
    return Reading(stored, tied and _is_tied(facts, stored))


def _loaded(facts: Names) -> dict[str, str]:
    """The parameters that transformers fills, with the names of the tensors that it takes."""
    if facts.config.num_hidden_layers > len(facts.tensors):
        return {}
    try:
        return dict(as_transformers_loads(facts.architecture, facts.config, facts.tensors))
    except Exception as error:  # transformers raises ValueError, KeyError, RuntimeError, ...
        raise CheckpointError(
            complaint(facts, list(facts.expected), list(facts.tensors), f"transformers says: {said(error)}")
        ) from error


def _is_tied(facts: Names, stored: Mapping[str, str]) -> bool:
    """Whether the head of a configuration that ties it is the embedding; warns where the files have another one."""
    names, tensors = facts.architecture.names, facts.tensors
    embedding, head = tensors[stored[names.token_embedding]], tensors.get(names.head)
    if head is None or head is embedding:
        return True
    uses_head = stored.get(names.head) == names.head
    if head.shape != embedding.shape:
        raise CheckpointError(
            f"{head.file}: {names.head} has shape {list(head.shape)}, the token embedding {list(embedding.shape)}, but "
            "config.json ties them; save the model again after resize_token_embeddings(), or set tie_word_embeddings "
            "to false in config.json if both belong to the model"
        )
    if head.equals(embedding):
        return True
    if uses_head:
        taken = (
            "the stored head, as transformers 5 does; transformers 4 takes the embedding for both: set "
            "tie_word_embeddings to false in config.json if both belong to the model, or remove the head"
        )
    else:
        taken = (
            "the embedding, as transformers 4 does; transformers 5 takes the stored head: set tie_word_embeddings to "
            "false in config.json, or install transformers 5, if that is the model"
        )
    warnings.warn(
        f"{head.file}: {names.head} is another matrix than {stored[names.token_embedding]}, but config.json ties them "
        f"(tie_word_embeddings); the bundle has {taken}",
        UserWarning,
        stacklevel=5,
    )
    return not uses_head
