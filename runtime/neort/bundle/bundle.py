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
from ..paths import given_path, open_regular, read_regular
from .formats import Cost, Format, format_of
from .manifest import MANIFEST, PROMPTS_TOGETHER, REMEDY, check_manifest, read_spec
from .reading import (
    LARGEST_GRAPH,
    LARGEST_MANIFEST,
    MissingBundleError,
    read_json,
    sha256_of_stream,
    stat_of,
    unreadable,
)

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
        with or of another format version; ArgumentTypeError for what is no path.
        """
        self.path = given_path(path, "the bundle", BundleError)
        self.manifest = _read_manifest(self.path)
        self.spec = read_spec(self.manifest, self.path / MANIFEST)
        self.file(WEIGHTS)
        for name in self.file_names:
            self._check_file(name, hashed=check_weights or name != WEIGHTS)

    @property
    def file_names(self) -> list[str]:
        """Names of the files that the manifest lists."""
        return list(self.manifest["files"])

    @property
    def file_sizes(self) -> dict[str, int]:
        """Bytes of the files that the manifest lists."""
        return {name: facts["bytes"] for name, facts in self.manifest["files"].items()}

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
    def prompts_together(self) -> bool:
        """Whether prompts that share a run get the bits of each alone, as the export found; so they do unless it says
        otherwise."""
        return bool(self.manifest.get(PROMPTS_TOGETHER, True))

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

    def read_bytes(self, name: str, limit: int = LARGEST_GRAPH) -> bytes:
        """Contents of one of the bundle's files, ``limit`` bytes at most. Raises BundleError where they cannot be."""
        file = self.file(name)
        try:
            return read_regular(file, limit)
        except OSError as error:
            raise unreadable(file, error) from error

    def read_json(self, name: str) -> dict[str, Any]:
        """Contents of one of the bundle's JSON files."""
        return read_json(self.file(name), BundleError, REMEDY)

    def _check_file(self, name: str, *, hashed: bool) -> None:
        """Raises BundleError for a file that is not the one that the manifest lists."""
        expected = self.manifest["files"][name]
        expected_size = expected["bytes"]
        file = self.path / name
        facts = stat_of(file)
        if facts is None:
            raise BundleError(f"{self.path} lacks {name}, which its manifest lists; copy or export it again")
        if not stat.S_ISREG(facts.st_mode):
            raise BundleError(f"{file} is no file, as the manifest says; {REMEDY}")
        try:
            with open_regular(file) as stream:
                size = os.fstat(stream.fileno()).st_size
                if size != expected_size:
                    raise BundleError(
                        f"{file} has {size:,} bytes, the manifest says {expected_size:,}: it is truncated "
                        f"or replaced; {REMEDY}"
                    )
                digest = sha256_of_stream(stream, size) if hashed else expected["sha256"]
        except OSError as error:
            raise unreadable(file, error) from error
        if digest != expected["sha256"]:
            raise BundleError(
                f"{file} does not match the sha256 in the manifest: it is damaged or was changed; {REMEDY}"
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
    manifest = read_json(path / MANIFEST, BundleError, REMEDY, LARGEST_MANIFEST)
    check_manifest(manifest, path)
    return manifest
