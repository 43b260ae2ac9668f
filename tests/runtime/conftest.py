"""The bundled model, and copies of it that a test may damage."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import neort
from neort.bundle import bundled_path


@pytest.fixture(scope="session")
def bundle_path() -> Path:
    """Folder of the bundled model; not to be written to."""
    return bundled_path()


@pytest.fixture(scope="session")
def model(bundle_path: Path) -> neort.Model:
    """The bundled model. Tests share it, so they must leave no sequence running."""
    return neort.load(bundle_path, num_threads=2)


@pytest.fixture
def bundle_copy(bundle_path: Path, tmp_path: Path) -> Path:
    """A copy of the bundled model that the test may change."""
    return Path(shutil.copytree(bundle_path, tmp_path / "copy"))


@pytest.fixture
def edit_manifest(bundle_copy: Path) -> Callable[[Callable[[dict[str, Any]], None]], None]:
    """Applies a function to the parsed manifest.json of `bundle_copy`."""

    def edit(change: Callable[[dict[str, Any]], None]) -> None:
        file = bundle_copy / "manifest.json"
        manifest = json.loads(file.read_text(encoding="utf-8"))
        change(manifest)
        file.write_text(json.dumps(manifest), encoding="utf-8")

    return edit


@pytest.fixture
def replace_file(
    bundle_copy: Path, edit_manifest: Callable[[Callable[[dict[str, Any]], None]], None]
) -> Callable[[str, bytes], None]:
    """Gives a file of `bundle_copy` new contents and the manifest their size and hash, as a careful attacker would."""

    def replace(name: str, contents: bytes) -> None:
        (bundle_copy / name).write_bytes(contents)
        facts = {"bytes": len(contents), "sha256": hashlib.sha256(contents).hexdigest()}
        edit_manifest(lambda manifest: manifest["files"].update({name: facts}))

    return replace
