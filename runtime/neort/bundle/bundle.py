"""A bundle folder: its manifest, its files, and the checks that they are what the exporter wrote.

Knows files and hashes; knows nothing about running a graph.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path
from typing import Any

from ..errors import BundleError
from .formats import Cost, Format, format_of
from .manifest import MANIFEST, check_manifest, read_spec
from .reading import MissingBundleError, read_json, sha256_of, stat_of, unreadable

__all__ = ["WEIGHTS", "Bundle", "bundled_path"]

WEIGHTS = "weights.data"


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
            raise unreadable(file, error) from error

    def read_json(self, name: str) -> dict[str, Any]:
        """Contents of one of the bundle's JSON files."""
        return _parse_json(self.file(name))

    def _check_file(self, name: str, *, hashed: bool) -> None:
        expected = self.manifest["files"][name]
        file = self.path / name
        facts = stat_of(file)
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
            raise unreadable(file, error) from error
        if digest != expected["sha256"]:
            raise BundleError(
                f"{file} does not match the sha256 in the manifest: it is damaged or was changed; "
                "copy or export the bundle again"
            )


def bundled_path() -> Path:
    """Folder of the demonstration model that is installed with neort."""
    from neort_models import bundled

    try:
        return bundled()
    except FileNotFoundError as error:
        raise MissingBundleError(str(error), error) from None


def _read_manifest(path: Path) -> dict[str, Any]:
    folder, manifest_file = stat_of(path), stat_of(path / MANIFEST)
    if folder is None or not stat.S_ISDIR(folder.st_mode):
        sentence = f"{path} is not a folder; give a bundle made by neort-export"
        if folder is not None:
            raise BundleError(sentence)
        raise MissingBundleError(sentence, OSError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path)))
    if manifest_file is None or not stat.S_ISREG(manifest_file.st_mode):
        hint = "it looks like a checkpoint: run neort-export on it" if (path / "config.json").is_file() else ""
        raise BundleError(f"{path} has no {MANIFEST}, so it is no bundle; {hint or 'make one with neort-export'}")
    manifest = _parse_json(path / MANIFEST)
    check_manifest(manifest, path)
    return manifest


def _parse_json(file: Path) -> dict[str, Any]:
    return read_json(file, BundleError, "copy or export the bundle again")
