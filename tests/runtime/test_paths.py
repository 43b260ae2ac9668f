"""Only regular files are read, nothing is waited for, and a path that is none is a sentence."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

import neort
from neort.errors import ArgumentTypeError, ConfigError
from neort.paths import given_path, open_regular, read_regular

POSIX = pytest.mark.skipif(os.name != "posix", reason="needs FIFOs, devices and links")


def special(kind: str, place: Path) -> Path:
    """Something at a path that is no regular file, or a link to it."""
    if kind == "folder":
        place.mkdir()
    elif kind == "FIFO":
        os.mkfifo(place)
    elif kind == "link to a FIFO":
        os.mkfifo(place.with_suffix(".fifo"))
        place.symlink_to(place.with_suffix(".fifo"))
    else:
        place.symlink_to("/dev/zero")
    return place


KINDS = ["folder", "FIFO", "link to a FIFO", "link to /dev/zero"]


@POSIX
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_regular_file_is_not_read(kind: str, tmp_path: Path) -> None:
    place = special(kind, tmp_path / "file")
    for read in (open_regular, lambda path: read_regular(path, 10)):
        with pytest.raises(OSError, match=r"regular file|directory"):
            read(place)


@POSIX
def test_a_fifo_that_takes_a_file_s_place_after_the_first_look_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.touch()
    facts = file.stat()
    file.unlink()
    os.mkfifo(file)
    monkeypatch.setattr(Path, "stat", lambda self: facts)
    with pytest.raises(OSError, match="no regular file"):
        open_regular(file)


def test_contents_up_to_the_limit_are_read(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    assert read_regular(file, 5) == read_regular(file, 1000) == b"12345"
    with pytest.raises(OSError, match="it has 5 bytes, and at most 4 are read") as caught:
        read_regular(file, 4)
    assert caught.value.errno == errno.EFBIG


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs files whose size is not told")
def test_a_file_without_a_size_is_read_up_to_the_limit() -> None:
    assert b"Name:" in read_regular(Path("/proc/self/status"), 1 << 20)
    with pytest.raises(OSError, match="more than 10 bytes"):
        read_regular(Path("/proc/self/status"), 10)


@pytest.mark.parametrize("value", [5, None, b"bytes", ["a"], True])
def test_what_is_no_path_is_a_type_error(value: object) -> None:
    with pytest.raises(ArgumentTypeError, match=r"^the file is named by a path, .*not by \w+$"):
        given_path(value, "the file", ConfigError)


@pytest.mark.parametrize(
    ("value", "words"),
    [("", "is empty"), ("a\0b", "NUL"), pytest.param("~no_such_user/x", "home folder of nobody", marks=POSIX)],
)
def test_a_path_that_names_nothing_is_the_error_that_was_asked_for(value: str, words: str) -> None:
    with pytest.raises(ConfigError, match=rf"^the path of the file.* {words}"):
        given_path(value, "the file", ConfigError)


def test_the_home_folder_is_written_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert given_path("~/x", "the file", ConfigError) == tmp_path / "x"
    assert given_path(tmp_path, "the file", ConfigError) == tmp_path


@pytest.mark.parametrize("value", ["a\0b", pytest.param("~no_such_user/x", marks=POSIX)])
def test_no_path_of_the_public_functions_gets_further(value: str, model: neort.Model) -> None:
    with model.prefix("The") as prefix:
        attempts: list[tuple[type[neort.NeortError], Callable[[], object]]] = [
            (neort.BundleError, lambda: neort.Bundle(value)),
            (neort.BundleError, lambda: neort.load(value)),
            (neort.BundleError, lambda: neort.load(draft=value)),
            (neort.ConfigError, lambda: neort.load(packed_weights=value)),
            (neort.PrefixError, lambda: model.load_prefix(value)),
            (neort.StorageError, lambda: prefix.save(value)),
        ]
        for error, attempt in attempts:
            with pytest.raises(error):
                attempt()


@POSIX
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["manifest.json", "config.json", "tokenizer.json", "decoder.onnx", "weights.data"])
def test_a_bundle_with_something_else_in_a_file_s_place_is_refused(kind: str, name: str, bundle_copy: Path) -> None:
    (bundle_copy / name).unlink()
    special(kind, bundle_copy / name)
    with pytest.raises(neort.BundleError, match=name):
        neort.load(bundle_copy)


@POSIX
@pytest.mark.parametrize("kind", KINDS)
def test_a_prefix_in_whose_place_is_something_else_is_refused(kind: str, tmp_path: Path, model: neort.Model) -> None:
    with pytest.raises(neort.PrefixError, match=r"cannot be read \(.*make the prefix again"):
        model.load_prefix(special(kind, tmp_path / "prefix"))


@pytest.mark.parametrize("name", ["manifest.json", "tokenizer.json", "generation_config.json"])
def test_a_file_of_gigabytes_is_refused_before_it_is_read(name: str, bundle_copy: Path) -> None:
    os.truncate(bundle_copy / name, 3 << 30)  # without taking room
    with pytest.raises(neort.BundleError, match=rf"{name}.*3,221,225,472 bytes"):
        neort.load(bundle_copy)
