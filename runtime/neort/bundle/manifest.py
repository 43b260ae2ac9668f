"""What manifest.json says: the format of the bundle, its files, and the model's dimensions.

Knows contents; knows nothing about folders.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BundleError
from .formats import format_of

__all__ = ["FORMAT_VERSION", "MANIFEST", "ModelSpec", "check_manifest", "manifest_checksum", "read_spec", "section_of"]

FORMAT_VERSION = 2
MANIFEST = "manifest.json"
CHECKSUM = "sha256"  # the manifest's own, over all its other members


@dataclass(frozen=True)
class ModelSpec:
    """The facts about a model that the runtime needs; the manifest's ``model`` section.

    ``window_size`` is the number of keys that a local layer sees; ``attention_layers`` is one of "global" and
    "local" per layer.
    """

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    head_dim: int
    max_position_embeddings: int
    window_size: int
    attention_layers: tuple[str, ...]


def check_manifest(manifest: Mapping[str, Any], path: Path) -> None:
    """Raise BundleError for a manifest of another version, with files of impossible names, or of an unknown shape.

    ``path`` is the bundle's folder, for the message.
    """
    version = manifest.get("format_version")
    if version != FORMAT_VERSION:
        raise BundleError(
            f"{path} has format_version {version!r}, this neort reads {FORMAT_VERSION}; "
            "update neort, or export the checkpoint again with this version"
        )
    for name, facts in section_of(manifest, "files").items():
        if (
            Path(name).name != name
            or name in ("", "..")
            or any(character in name for character in "\\\0")
            or not isinstance(facts, dict)
            or not isinstance(facts.get("bytes"), int)
            or not isinstance(facts.get("sha256"), str)
        ):
            raise BundleError(f"{path / MANIFEST} lists the file {name!r}; names must be plain, with bytes and sha256")
    _check_format(manifest)


def _check_format(manifest: Mapping[str, Any]) -> None:
    """Raises BundleError where the ``format`` section, which older bundles lack, is not what this version knows."""
    quantization = section_of(manifest, "recipe").get("quantization")
    if not isinstance(quantization, str):
        raise BundleError(f"{MANIFEST} has recipe.quantization {quantization!r}, not a name; export the bundle again")
    if "format" not in manifest:
        return
    section = section_of(manifest, "format")
    if (name := section.get("name")) != quantization:
        raise BundleError(
            f"{MANIFEST} has format.name {name!r} and recipe.quantization {quantization!r}, which must be equal; "
            "export the bundle again"
        )
    known = format_of(str(name))
    contradictions = known.contradictions(section) if known else {}
    if contradictions:
        fact, (found, own) = next(iter(contradictions.items()))
        raise BundleError(
            f"{MANIFEST} has format.{fact} {found!r}, and in this version {name} has {own!r}; use the version of "
            "neort that made the bundle, or export the checkpoint again"
        )


def read_spec(manifest: Mapping[str, Any]) -> ModelSpec:
    """The model's facts from a manifest. Raises BundleError where they are missing or no such facts."""
    model = section_of(manifest, "model")
    try:
        fields = {name: model[name] for name in ModelSpec.__dataclass_fields__}
    except KeyError as missing:
        raise BundleError(f"{MANIFEST} lacks model.{missing.args[0]}; export the bundle again") from None
    layers = fields.pop("attention_layers")
    for name, value in fields.items():
        if type(value) is not int or value < 1:
            raise BundleError(f"{MANIFEST} has model.{name} {value!r}, not a count; export the bundle again")
    if (
        not isinstance(layers, list)
        or any(x not in ("global", "local") for x in layers)
        or len(layers) != fields["num_layers"]
    ):
        raise BundleError(
            f"{MANIFEST} has model.attention_layers {layers!r}, not one of global and local for each of "
            f"num_layers {fields['num_layers']}; export the bundle again"
        )
    return ModelSpec(**fields, attention_layers=tuple(layers))


def manifest_checksum(manifest: Mapping[str, Any]) -> str:
    """Hex digest of a manifest's content but for the digest itself, however the file is indented.

    Raises ValueError for numbers that JSON does not have.
    """
    content = {name: value for name, value in manifest.items() if name != CHECKSUM}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def section_of(manifest: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = manifest.get(name)
    if not isinstance(section, dict):
        raise BundleError(f"{MANIFEST} has no section {name!r}; export the bundle again")
    return section
