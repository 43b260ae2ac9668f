"""What manifest.json says: the format of the bundle, its files, and the model's dimensions.

Knows contents; knows nothing about folders.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BundleError
from ..wording import shortened
from .formats import format_of

__all__ = [
    "FORMAT_VERSION",
    "MANIFEST",
    "PROMPTS_TOGETHER",
    "ModelSpec",
    "check_manifest",
    "manifest_checksum",
    "read_spec",
    "section_of",
]

FORMAT_VERSION = 3  # what the exporter writes
READABLE_VERSIONS = (2, 3)
CHECKSUM_SINCE = 3
MANIFEST = "manifest.json"
PROMPTS_TOGETHER = "prompts_together"  # whether prompts may share a run; unknown before an export measured it
CHECKSUM = "sha256"  # the manifest's own, over all its other members
LONGEST_NAME = 200  # of a file, in characters
LARGEST_FILE = (1 << 63) - 1  # bytes, as systems count them
SHA256 = re.compile("[0-9a-f]{64}")
REMEDY = "copy or export the bundle again"


@dataclass(frozen=True)
class ModelSpec:
    """The facts about a model that the runtime needs; the manifest's ``model`` section.

    ``head_dim`` is the width of a head in the graph and its cache, a multiple of 8: narrower heads of the checkpoint
    are filled up with zeros, and ``num_heads`` of them are wider than ``hidden_size`` then. ``window_size`` is the
    number of keys that a local layer sees, ``max_position_embeddings`` in a family without such layers;
    ``attention_layers`` is one of "global" and "local" per layer.
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
    """Raise BundleError for a manifest of another version, that was changed, or of an unknown shape.

    ``path`` is the bundle's folder, for the message.
    """
    version = manifest.get("format_version")
    if type(version) is not int or version not in READABLE_VERSIONS:
        raise BundleError(
            f"{path} has format_version {shortened(version)}, this neort reads "
            f"{' and '.join(map(str, READABLE_VERSIONS))}; update neort, or export the checkpoint again with this one"
        )
    _check_checksum(manifest, path, version)
    for name, facts in section_of(manifest, "files", path / MANIFEST).items():
        if not _is_plain(name) or not _are_file_facts(facts):
            raise BundleError(
                f"{path / MANIFEST} lists the file {shortened(name)} with {shortened(facts)}; names must be plain, "
                f"with bytes and sha256; {REMEDY}"
            )
    _check_format(manifest, path / MANIFEST)
    if type(together := manifest.get(PROMPTS_TOGETHER, True)) is not bool:
        raise BundleError(
            f"{path / MANIFEST} has {PROMPTS_TOGETHER} {shortened(together)}, not true or false; {REMEDY}"
        )


def _check_checksum(manifest: Mapping[str, Any], path: Path, version: int) -> None:
    """Raises BundleError for a manifest that is not what its checksum was made of, or that lost the checksum."""
    if CHECKSUM not in manifest:
        if version < CHECKSUM_SINCE:
            return
        raise BundleError(
            f"{path / MANIFEST} has format_version {version} and no {CHECKSUM} of its own, which every such manifest "
            f"has: it was changed; {REMEDY}"
        )
    try:
        found = manifest_checksum(manifest)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path / MANIFEST} holds what no manifest does ({error}); {REMEDY}") from None
    if manifest[CHECKSUM] != found:
        raise BundleError(
            f"{path / MANIFEST} says that its own {CHECKSUM} is {shortened(manifest[CHECKSUM])}, and it is {found}: it "
            f"is damaged or was changed; {REMEDY}"
        )


def _is_plain(name: str) -> bool:
    """Whether a file name is one on every system, and no path."""
    return (
        Path(name).name == name
        and name not in ("", "..")
        and len(name) <= LONGEST_NAME
        and name.isprintable()  # so no NUL, and no lone surrogate
        and "\\" not in name
    )


def _are_file_facts(facts: Any) -> bool:
    return (
        isinstance(facts, dict)
        and type(facts.get("bytes")) is int
        and 0 <= facts["bytes"] <= LARGEST_FILE
        and isinstance(facts.get("sha256"), str)
        and SHA256.fullmatch(facts["sha256"]) is not None
    )


def _check_format(manifest: Mapping[str, Any], file: Path) -> None:
    """Raises BundleError where the ``format`` section, which older bundles lack, is not what this version knows."""
    quantization = section_of(manifest, "recipe", file).get("quantization")
    if not isinstance(quantization, str):
        raise BundleError(f"{file} has recipe.quantization {shortened(quantization)}, not a name; {REMEDY}")
    if "format" not in manifest:
        return
    section = section_of(manifest, "format", file)
    if (name := section.get("name")) != quantization:
        raise BundleError(
            f"{file} has format.name {shortened(name)} and recipe.quantization {shortened(quantization)}, which "
            f"must be equal; {REMEDY}"
        )
    known = format_of(quantization)
    contradictions = known.contradictions(section) if known else {}
    if contradictions:
        fact, (found, own) = next(iter(contradictions.items()))
        raise BundleError(
            f"{file} has format.{fact} {shortened(found)}, and in this version {name} has {shortened(own)}; use "
            "the version of neort that made the bundle, or export the checkpoint again"
        )


def read_spec(manifest: Mapping[str, Any], file: Path = Path(MANIFEST)) -> ModelSpec:
    """The model's facts from a manifest. Raises BundleError where they are missing or no such facts."""
    model = section_of(manifest, "model", file)
    try:
        fields = {name: model[name] for name in ModelSpec.__dataclass_fields__}
    except KeyError as missing:
        raise BundleError(f"{file} lacks model.{missing.args[0]}; {REMEDY}") from None
    layers = fields.pop("attention_layers")
    for name, value in fields.items():
        if type(value) is not int or value < 1:
            raise BundleError(f"{file} has model.{name} {shortened(value)}, not a count; {REMEDY}")
    if (
        not isinstance(layers, list)
        or any(x not in ("global", "local") for x in layers)
        or len(layers) != fields["num_layers"]
    ):
        raise BundleError(
            f"{file} has model.attention_layers {shortened(layers)}, not one of global and local for each of "
            f"num_layers {shortened(fields['num_layers'])}; {REMEDY}"
        )
    return ModelSpec(**fields, attention_layers=tuple(layers))


def manifest_checksum(manifest: Mapping[str, Any]) -> str:
    """Hex digest of a manifest's content but for the digest itself, however the file is indented.

    Raises ValueError for numbers that JSON does not have.
    """
    content = {name: value for name, value in manifest.items() if name != CHECKSUM}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def section_of(manifest: Mapping[str, Any], name: str, file: Path = Path(MANIFEST)) -> dict[str, Any]:
    """An object in a manifest, which is read from ``file``. Raises BundleError where there is none."""
    section = manifest.get(name)
    if not isinstance(section, dict):
        raise BundleError(f"{file} has no section {name!r}; {REMEDY}")
    return section
