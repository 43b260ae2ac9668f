"""The bundled model, copies of it that a test may damage, and what an older onnxruntime cannot do."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from neort.bundle import CHECKSUM, manifest_checksum
from neort.kvcache import CACHE_TYPES, CacheType
from releases import KEEPS_INT8_CACHES, SATURATES


def pytest_configure(config: pytest.Config) -> None:
    if SATURATES:
        config.addinivalue_line("filterwarnings", "ignore::neort.PrecisionWarning")


@pytest.fixture(scope="session")
def int8_cache() -> None:
    """Skips where onnxruntime cannot keep an int8 cache."""
    if not KEEPS_INT8_CACHES:
        pytest.skip(f"onnxruntime {onnxruntime.__version__} cannot keep an int8 cache")


@pytest.fixture(scope="session")
def exact_products() -> None:
    """Skips where int8 products saturate."""
    if SATURATES:
        pytest.skip(f"int8 products saturate on this processor, and onnxruntime {onnxruntime.__version__} lets them")


@pytest.fixture(params=list(CACHE_TYPES))
def kv_cache(request: pytest.FixtureRequest) -> CacheType:
    """Each type of cache."""
    kind: CacheType = request.param
    if kind == "int8":
        request.getfixturevalue("int8_cache")
    return kind


@pytest.fixture
def bundle_copy(bundle_path: Path, tmp_path: Path) -> Path:
    """A copy of the bundled model that the test may change."""
    return Path(shutil.copytree(bundle_path, tmp_path / "copy"))


@pytest.fixture
def edit_manifest(bundle_copy: Path) -> Callable[[Callable[[dict[str, Any]], None]], None]:
    """Applies a function to the parsed manifest.json of `bundle_copy`, and makes its checksum fit again."""

    def edit(change: Callable[[dict[str, Any]], None]) -> None:
        file = bundle_copy / "manifest.json"
        manifest = json.loads(file.read_text(encoding="utf-8"))
        change(manifest)
        if CHECKSUM in manifest:
            manifest[CHECKSUM] = manifest_checksum(manifest)
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
