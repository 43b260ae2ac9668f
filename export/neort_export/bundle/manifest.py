"""manifest.json: what a bundle is, where it comes from, and the hashes of its files."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neort.bundle import CHECKSUM, FORMAT_VERSION, MANIFEST, manifest_checksum, sha256_of

from ..checkpoint import Checkpoint

__all__ = ["CARD", "model_section", "with_checksum", "write_json", "write_manifest"]

CARD = "README.md"  # which the manifest does not list: its owner may write in it
TOOLS = ("neort", "torch", "transformers", "onnx-ir", "onnxruntime")


def write_manifest(
    folder: Path,
    source: Checkpoint,
    sections: Mapping[str, Any],
    *,
    verified: bool = False,
    hashes: Mapping[str, str] | None = None,
) -> None:
    """manifest.json over all files of the folder but README.md; it holds no date, so that equal exports are equal.

    ``sections`` are ``recipe``, how the weights were made, ``format``, the numbers of their format, where those are
    known, and whether prompts may share a run, where that was measured. ``verified`` says whether the bundle was
    measured against torch; ``hashes`` are sha256 known already.
    """
    (folder / MANIFEST).unlink(missing_ok=True)
    known = hashes or {}
    files = sorted(p for p in folder.iterdir() if p.is_file() and p.name != CARD)
    manifest = {
        "format_version": FORMAT_VERSION,
        "source": _source(source),
        **sections,
        "verified": verified,
        "model": model_section(source),
        "files": {p.name: {"bytes": p.stat().st_size, "sha256": known.get(p.name) or sha256_of(p)} for p in files},
        "tools": {name: importlib.metadata.version(name) for name in TOOLS},
    }  # fmt: skip
    write_json(folder / MANIFEST, with_checksum(manifest))


def _source(source: Checkpoint) -> dict[str, Any]:
    """What the bundle was made of: the checkpoint, and the adapter that was merged into it."""
    name = Path(source.source).name if source.revision is None else source.source
    facts: dict[str, Any] = {"name": name, "revision": source.revision}
    if source.adapter is not None:
        facts["adapter"] = {"name": source.adapter.name, "sha256": source.adapter.sha256()}
    return facts


def with_checksum(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest of this version with the checksum of its own content, by which a changed one is told."""
    content = {**manifest, "format_version": FORMAT_VERSION}
    return {**content, CHECKSUM: manifest_checksum(content)}


def model_section(source: Checkpoint) -> dict[str, Any]:
    """What the runtime must know about the model; see neort.bundle.ModelSpec."""
    model = source.dimensions
    return {
        "architecture": source.architecture.model_type,
        "vocab_size": model.vocab_size,
        "hidden_size": model.hidden_size,
        "num_layers": model.num_layers,
        "num_heads": model.num_heads,
        "head_dim": model.stored_head_dim,
        "max_position_embeddings": model.max_position_embeddings,
        "window_size": model.window_size,
        "attention_layers": list(model.attention_layers),
    }


def write_json(file: Path, content: dict[str, Any]) -> None:
    """Write a JSON file that people can read too."""
    file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
