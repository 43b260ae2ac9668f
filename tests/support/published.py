"""Bundles as a hub or a web server has them: files by their paths, small, with manifests that fit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from folders import ROOT
from neort.bundle import CHECKSUM, FORMATS, MANIFEST, Quantization, manifest_checksum
from neort.hub import CachedRepository, HubName, folder_name

__all__ = ["bundle_files", "edited", "in_folders", "laid"]

MANIFEST_FILE = ROOT / "tests" / "bundles" / "neo-mini" / MANIFEST
WEIGHTS = bytes(range(256)) * 4096  # a megabyte


def bundle_files(quantization: Quantization = "int8", **contents: bytes) -> dict[str, bytes]:
    """The files of a bundle that opens and does not run; ``contents`` by their names, _ for the dot."""
    files = {
        "config.json": b"{}",
        "tokenizer.json": b'{"model": {}}',
        "decoder.onnx": b"graph",
        "weights.data": WEIGHTS,
    }
    files |= {name.replace("_", "."): content for name, content in contents.items()}
    manifest = json.loads(MANIFEST_FILE.read_text(encoding="utf-8"))
    manifest["recipe"]["quantization"] = quantization
    manifest["format"] = FORMATS[quantization].manifest_section()
    manifest["files"] = {name: facts_of(content) for name, content in files.items()}
    return files | {MANIFEST: with_checksum(manifest)}


def edited(files: Mapping[str, bytes], /, **changes: Any) -> dict[str, bytes]:
    """A bundle's files with other members of the manifest, whose checksum fits."""
    manifest = json.loads(files[MANIFEST]) | changes
    return {**files, MANIFEST: with_checksum(manifest)}


def facts_of(content: bytes) -> dict[str, Any]:
    """What a manifest says of a file."""
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def with_checksum(manifest: dict[str, Any]) -> bytes:
    return json.dumps(manifest | {CHECKSUM: manifest_checksum(manifest)}).encode()


def in_folders(**bundles: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files of a repository with a folder for each bundle, _ for the dash, and a card."""
    files = {
        f"{folder.replace('_', '-')}/{name}": content
        for folder, bundle in bundles.items()
        for name, content in bundle.items()
    }
    return files | {"README.md": b"# A model\n", ".gitattributes": b"*.data filter=lfs\n"}


def laid(cache: Path, bundle: Path) -> str:
    """The name by which a cache holds a bundle from now on, as if it had been pulled."""
    name, commit = HubName("owner/tiny"), "c0ffee" + 34 * "0"
    cached = CachedRepository(cache, folder_name(name))
    for file in (cached.snapshot(commit), cached.ref(None)):
        file.parent.mkdir(parents=True)
    cached.snapshot(commit).symlink_to(bundle.resolve(), target_is_directory=True)
    cached.ref(None).write_text(commit)
    return str(name)
