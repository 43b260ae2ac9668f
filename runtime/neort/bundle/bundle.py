"""A bundle folder: its manifest, its files, and the checks that they are what the exporter wrote.

Knows files and hashes; knows nothing about running a graph.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BundleError, NeortError, SystemCallError
from .formats import Cost, Format, format_of

__all__ = [
    "FORMAT_VERSION",
    "MANIFEST",
    "WEIGHTS",
    "Bundle",
    "ModelSpec",
    "bundled_path",
    "read_json",
    "read_spec",
    "sha256_of",
]

FORMAT_VERSION = 2
WEIGHTS = "weights.data"
MANIFEST = "manifest.json"
_HASH_BLOCK = 1 << 20


class MissingBundleError(SystemCallError, BundleError, FileNotFoundError):
    """There is nothing where a bundle should be."""


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


class Bundle:
    """A bundle that was opened and checked.

    ``path`` is its folder, ``manifest`` the parsed manifest.json, ``spec`` the model's facts.
    """

    def __init__(self, path: str | os.PathLike[str], *, check_weights: bool = False) -> None:
        """Open ``path`` and compare its files with the manifest.

        Sizes of all files and the hashes of all but the weights are always checked; ``check_weights`` adds the
        weights' hash, which takes about a second per gigabyte.

        Raises BundleError for a bundle that is missing (then a FileNotFoundError, too), unreadable, damaged, tampered
        with or of another format version.
        """
        if not os.fspath(path):
            raise BundleError("the bundle's path is empty; name a folder made by neort-export")
        try:
            self.path = Path(path).expanduser()
        except RuntimeError as error:
            raise BundleError(f"{os.fspath(path)!r} names the home folder of nobody ({error})") from None
        self.manifest = _read_manifest(self.path)
        self.spec = read_spec(self.manifest)
        self.file(WEIGHTS)
        for name in self.file_names:
            self._check_file(name, hashed=check_weights or name != WEIGHTS)

    @property
    def file_names(self) -> list[str]:
        """Names of the files that the manifest lists."""
        return list(self.manifest["files"])

    @property
    def quantization(self) -> str:
        """The bundle's format, such as "int8" or "fp32"."""
        name = self.manifest.get("format", {}).get("name")
        return str(name or self.manifest["recipe"]["quantization"])  # older bundles have no section ``format``

    @property
    def format(self) -> Format | None:
        """The numbers of the bundle's format; None for a format that this version does not know."""
        return format_of(self.quantization)

    @property
    def stated_cost(self) -> Cost | None:
        """The cost of drafted tokens that the manifest states; None in bundles of earlier versions."""
        return Cost.stated(self.manifest.get("format", {}))

    def model_hash(self, graph: str) -> str:
        """Hex digest that tells a graph file and its weights from others, by their hashes in the manifest."""
        hashes = [self.manifest["files"][name]["sha256"] for name in (graph, WEIGHTS)]
        return hashlib.sha256(" ".join(hashes).encode()).hexdigest()

    def file(self, name: str) -> Path:
        """Path of a file that the manifest lists. Raises BundleError when it does not."""
        if name not in self.manifest["files"]:
            raise BundleError(f"{self.path} lists no file {name!r} in {MANIFEST}; export the bundle again")
        return self.path / name

    def read_bytes(self, name: str) -> bytes:
        """Contents of one of the bundle's files. Raises BundleError where they cannot be read."""
        file = self.file(name)
        try:
            return file.read_bytes()
        except OSError as error:
            raise _unreadable(file, error) from error

    def read_json(self, name: str) -> dict[str, Any]:
        """Contents of one of the bundle's JSON files."""
        return _parse_json(self.file(name))

    def _check_file(self, name: str, *, hashed: bool) -> None:
        expected = self.manifest["files"][name]
        file = self.path / name
        facts = _stat(file)
        if facts is None:
            raise BundleError(f"{self.path} lacks {name}, which its manifest lists; copy or export it again")
        if not stat.S_ISREG(facts.st_mode):
            raise BundleError(f"{file} is no file, as the manifest says; copy or export the bundle again")
        if facts.st_size != expected["bytes"]:
            raise BundleError(
                f"{file} has {facts.st_size:,} bytes, the manifest says {expected['bytes']:,}: it is truncated or "
                "replaced; copy or export the bundle again"
            )
        try:
            with file.open("rb"):
                digest = sha256_of(file) if hashed else expected["sha256"]
        except OSError as error:
            raise _unreadable(file, error) from error
        if digest != expected["sha256"]:
            raise BundleError(
                f"{file} does not match the sha256 in the manifest: it is damaged or was changed; "
                "copy or export the bundle again"
            )


def sha256_of(file: Path) -> str:
    """Hex digest of a file's contents. Raises OSError where they cannot be read."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(_HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _stat(path: Path) -> os.stat_result | None:
    """Facts about a path; None where there is nothing. Raises BundleError where the system does not tell."""
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: NUL in the name
        return None
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> BundleError:
    return BundleError(
        f"{path} cannot be read ({error.strerror}); let this user read it, or copy or export the bundle again"
    )


def bundled_path() -> Path:
    """Folder of the demonstration model that is installed with neort."""
    from neort_models import bundled

    try:
        return bundled()
    except FileNotFoundError as error:
        raise MissingBundleError(str(error), error) from None


def _read_manifest(path: Path) -> dict[str, Any]:
    folder, manifest_file = _stat(path), _stat(path / MANIFEST)
    if folder is None or not stat.S_ISDIR(folder.st_mode):
        sentence = f"{path} is not a folder; give a bundle made by neort-export"
        if folder is not None:
            raise BundleError(sentence)
        raise MissingBundleError(sentence, OSError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path)))
    if manifest_file is None or not stat.S_ISREG(manifest_file.st_mode):
        hint = "it looks like a checkpoint: run neort-export on it" if (path / "config.json").is_file() else ""
        raise BundleError(f"{path} has no {MANIFEST}, so it is no bundle; {hint or 'make one with neort-export'}")
    manifest = _parse_json(path / MANIFEST)
    version = manifest.get("format_version")
    if version != FORMAT_VERSION:
        raise BundleError(
            f"{path} has format_version {version!r}, this neort reads {FORMAT_VERSION}; "
            "update neort, or export the checkpoint again with this version"
        )
    for name, facts in _section(manifest, "files").items():
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
    return manifest


def _check_format(manifest: Mapping[str, Any]) -> None:
    """Raises BundleError where the ``format`` section, which older bundles lack, is not what this version knows."""
    quantization = _section(manifest, "recipe").get("quantization")
    if "format" not in manifest:
        return
    section = _section(manifest, "format")
    if (name := section.get("name")) != quantization:
        raise BundleError(
            f"{MANIFEST} has format.name {name!r} and recipe.quantization {quantization!r}, which must be equal; "
            "export the bundle again"
        )
    known = format_of(str(name))
    for fact, (found, own) in known.contradictions(section).items() if known else ():
        raise BundleError(
            f"{MANIFEST} has format.{fact} {found!r}, and in this version {name} has {own!r}; use the version of "
            "neort that made the bundle, or export the checkpoint again"
        )


def read_spec(manifest: Mapping[str, Any]) -> ModelSpec:
    """The model's facts from a manifest. Raises BundleError where they are missing or no such facts."""
    model = _section(manifest, "model")
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


def _section(manifest: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = manifest.get(name)
    if not isinstance(section, dict):
        raise BundleError(f"{MANIFEST} has no section {name!r}; export the bundle again")
    return section


def read_json(file: Path, error: type[NeortError], remedy: str) -> dict[str, Any]:
    """The object in a JSON file. Raises ``error``, ending in ``remedy``, when there is none."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as cause:
        raise error(f"{file} cannot be read as JSON ({cause}); {remedy}") from None
    if not isinstance(value, dict):
        raise error(f"{file} holds {type(value).__name__}, not an object; {remedy}")
    return value


def _parse_json(file: Path) -> dict[str, Any]:
    return read_json(file, BundleError, "copy or export the bundle again")
