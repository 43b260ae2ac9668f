"""What is wrong with what the hub hands out, as one sentence with the remedy."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from neort.errors import StorageError
from neort.wording import shortened

from ...errors import CheckpointError
from .cache import CachedRepository
from .names import HubName
from .parts import Parts, other_kinds

__all__ = ["damaged", "no_files", "no_room", "strange"]

NAMED = 3  # folders


def no_room(name: HubName, needed: int, free: int, cached: CachedRepository) -> StorageError:
    """The error for files that the cache's disk cannot hold; nothing of them was fetched."""
    return StorageError(
        f"{name} takes {needed:,} bytes and the disk of the cache {cached.cache} has {free:,} bytes free; nothing was "
        "fetched. Free some space there, or set HF_HOME to a folder on another disk"
    )


def damaged(name: HubName, file: str, found: str, listed: str) -> CheckpointError:
    """The error for a file that arrived with other bytes than the hub lists."""
    return CheckpointError(
        f"{file} of {name} arrived with the hash {found}, and the hub lists {listed}: it was damaged on the way and "
        "removed from the cache; run the command again"
    )


def strange(name: HubName, why: str) -> CheckpointError:
    """The error for an answer that is not a hub's, a login page's for instance."""
    from huggingface_hub import constants

    return CheckpointError(
        f"{name} cannot be fetched: what {constants.ENDPOINT} answers is no hub's answer ({shortened(why)}); correct "
        "HF_ENDPOINT, or look whether the network asks for a login"
    )


def no_files(name: HubName, parts: Parts, listed: Collection[str], *, base: Any, card: Any) -> CheckpointError:
    """The error for a repository that has nothing of what is wanted.

    ``base`` is the base model that an adapter's configuration names, ``card`` the header of the repository's card.
    """
    if parts is Parts.TOKENIZER:
        return CheckpointError(
            f"{name} has no tokenizer (tokenizer.json, or vocab.json with merges.txt); give a repository that has one"
        )
    if parts is Parts.ADAPTER:
        return CheckpointError(
            f"{name} has no adapter (adapter_config.json with adapter_model.safetensors); give a repository with one"
        )
    if base is not None:
        model = base if isinstance(base, str) and base.isprintable() and len(base) < 100 else "BASE"
        return CheckpointError(
            f"{name} holds an adapter, not a whole model; export its base with it: "
            f"neort-export {model} --adapter {name} -o BUNDLE"
        )
    folders = sorted(
        {file.rpartition("/")[0] for file in listed if file.endswith(("/model.safetensors", "/pytorch_model.bin"))}
    )
    if folders:
        return CheckpointError(
            f"{name} has weights only in folders ({', '.join(map(shortened, folders[:NAMED]))}); run "
            f"`{name.download_command}`, and give the folder in it"
        )
    kinds = other_kinds(listed)
    has = f"only {' and '.join(kinds)}" if kinds else "none at all"
    origin = getattr(card, "base_model", None)
    named = f", {shortened(origin)} by its card" if isinstance(origin, str) and origin.isprintable() else ""
    return CheckpointError(
        f"{name} has no weights that are read here, safetensors or pytorch_model.bin, but {has}; give the repository "
        f"that it was made of{named}"
    )
