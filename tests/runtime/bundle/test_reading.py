"""What the system does not let one read: one sentence that names the file, the reason and the remedy."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import neort
from neort.backend.session import open_decoder
from neort.bundle import Bundle

REMEDY = "let this user read it, or copy or export the bundle again"


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Path], None]:
    """Lets "open" or "stat" fail for one path as it does for a user who may not do it."""

    def refuse(method: str, place: Path) -> None:
        owner: Any = os if method == "open" else Path
        original = getattr(owner, method)

        def refused(path: Any, *arguments: Any, **options: Any) -> Any:
            if Path(path) == place:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
            return original(path, *arguments, **options)

        monkeypatch.setattr(owner, method, refused)

    return refuse


def assert_unreadable(path: Path, file: Path, reason: int = errno.EACCES, **options: Any) -> None:
    """That loading the bundle says that the file cannot be read."""
    with pytest.raises(neort.BundleError) as caught:
        neort.load(path, num_threads=1, **options)
    assert str(caught.value) == f"{file} cannot be read ({os.strerror(reason)}); {REMEDY}"


@pytest.mark.parametrize("name", ["tokenizer.json", "generation_config.json", "decoder.onnx", "weights.data"])
@pytest.mark.parametrize("method", ["open", "stat"])
@pytest.mark.parametrize("check_weights", [False, True])
def test_a_file_that_may_not_be_read_is_named(
    name: str, method: str, check_weights: bool, bundle_path: Path, refuse: Callable[[str, Path], None]
) -> None:
    refuse(method, bundle_path / name)
    assert_unreadable(bundle_path, bundle_path / name, check_weights=check_weights)


@pytest.mark.parametrize("name", ["", "manifest.json"])
def test_a_folder_that_may_not_be_looked_into_is_named(
    name: str, bundle_path: Path, refuse: Callable[[str, Path], None]
) -> None:
    refuse("stat", bundle_path / name)
    assert_unreadable(bundle_path, bundle_path / name)


def test_a_manifest_that_may_not_be_read_is_named(bundle_path: Path, refuse: Callable[[str, Path], None]) -> None:
    refuse("open", bundle_path / "manifest.json")
    with pytest.raises(neort.BundleError, match=r"manifest\.json cannot be read .*Permission denied"):
        neort.load(bundle_path)


def test_a_graph_that_becomes_unreadable_after_the_check_is_named(
    bundle_path: Path, refuse: Callable[[str, Path], None]
) -> None:
    bundle = Bundle(bundle_path)
    file = bundle.file("decoder.onnx")
    refuse("open", file)
    with pytest.raises(neort.BundleError, match=r"decoder\.onnx cannot be read \(Permission denied\); let this user"):
        open_decoder(bundle, file, 1)


@pytest.mark.skipif(os.name != "posix", reason="needs symbolic links")
def test_a_bundle_of_links_in_a_circle_is_named(tmp_path: Path) -> None:
    circle = tmp_path / "circle"
    circle.symlink_to("circle")
    assert_unreadable(circle, circle, errno.ELOOP)


@pytest.mark.skipif(os.name != "posix", reason="other systems have other limits")
def test_a_name_that_is_too_long_is_one_sentence(tmp_path: Path) -> None:
    assert_unreadable(tmp_path / ("x" * 300), tmp_path / ("x" * 300), errno.ENAMETOOLONG)


@pytest.mark.parametrize("name", ["tokenizer.json", "decoder.onnx", "weights.data"])
def test_a_folder_in_a_file_s_place_is_refused(name: str, bundle_copy: Path) -> None:
    (bundle_copy / name).unlink()
    (bundle_copy / name).mkdir()
    with pytest.raises(neort.BundleError, match=rf"{name} is no file, as the manifest says; copy or export") as caught:
        neort.load(bundle_copy)
    assert not isinstance(caught.value, OSError)


def test_a_missing_bundle_is_a_file_that_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(neort.BundleError) as caught:
        neort.load(tmp_path / "absent")
    assert isinstance(caught.value, FileNotFoundError)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOENT, os.fspath(tmp_path / "absent"))
    assert str(caught.value) == f"{tmp_path / 'absent'} is not a folder; give a bundle made by neort-export"
