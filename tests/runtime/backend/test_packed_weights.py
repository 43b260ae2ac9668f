"""Packed weights in a folder: the same logits, one copy for all processes, and nothing half-written."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import neort
from neort import StorageError
from neort.backend import packed_weights as packed
from neort.cli.main import main
from neort.files import publishing, target_lock
from releases import QUIET

IDS = list(range(40))


def only_folder(folder: Path) -> Path:
    (found,) = folder.iterdir()
    return found


def test_packed_weights_give_the_same_bits_when_they_are_saved_and_when_they_are_mapped(
    bundle_path: Path, model: neort.Model, tmp_path: Path
) -> None:
    expected = model.logits(IDS)
    for _ in range(2):
        loaded = neort.load(bundle_path, num_threads=2, packed_weights=tmp_path)
        np.testing.assert_array_equal(loaded.logits(IDS), expected)
    assert {file.name for file in only_folder(tmp_path).iterdir()} == {packed.GRAPH, packed.DATA, packed.SIZES}


def test_later_loads_write_nothing(bundle_path: Path, tmp_path: Path) -> None:
    neort.load(bundle_path, packed_weights=tmp_path)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    neort.load(bundle_path, packed_weights=tmp_path)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("name", [packed.GRAPH, packed.DATA, packed.SIZES])
def test_what_is_truncated_is_made_again(bundle_path: Path, model: neort.Model, tmp_path: Path, name: str) -> None:
    neort.load(bundle_path, packed_weights=tmp_path)
    file = only_folder(tmp_path) / name
    file.write_bytes(file.read_bytes()[:-7])
    loaded = neort.load(bundle_path, packed_weights=tmp_path)
    np.testing.assert_array_equal(loaded.logits(IDS), model.logits(IDS))


def test_a_folder_that_another_process_finished_meanwhile_stays_in_its_place(
    bundle_path: Path, model: neort.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one appears while this process brings its own to the disk."""
    neort.load(bundle_path, packed_weights=tmp_path / "other")
    finished = only_folder(tmp_path / "other")
    folder = tmp_path / "packed"
    target, fsync = folder / finished.name, os.fsync

    def publish_other(handle: int) -> None:
        if not target.exists():
            shutil.copytree(finished, target)
            places.append(target.stat().st_ino)
        fsync(handle)

    places: list[int] = []
    monkeypatch.setattr(os, "fsync", publish_other)
    loaded = neort.load(bundle_path, packed_weights=folder)
    assert [only_folder(folder).stat().st_ino] == places
    np.testing.assert_array_equal(loaded.logits(IDS), model.logits(IDS))


@pytest.mark.parametrize("existing", [True, False])
def test_what_a_killed_process_left_is_removed_by_the_next_load(
    bundle_path: Path, tmp_path: Path, existing: bool
) -> None:
    neort.load(bundle_path, packed_weights=tmp_path)
    target = only_folder(tmp_path)
    if not existing:
        shutil.rmtree(target)
    partial = tmp_path / f".{target.name}.partial-0123456789abcdef"
    partial.mkdir()
    (partial / packed.DATA).write_bytes(b"half")
    partial.with_name(f"{partial.name}.lock").touch()  # nobody has it locked
    neort.load(bundle_path, packed_weights=tmp_path)
    assert only_folder(tmp_path) == target


def test_a_whole_folder_is_not_moved_by_who_saw_it_truncated(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes find the same truncated folder; the slower one finds the other's in its place."""
    neort.load(bundle_path, packed_weights=tmp_path)
    target = only_folder(tmp_path)
    whole = shutil.copytree(target, tmp_path.with_name("whole"))
    (target / packed.DATA).write_bytes(b"")
    lock = target_lock

    @contextlib.contextmanager
    def slower(place: Path) -> Iterator[None]:
        if any(partial.joinpath(packed.SIZES).exists() for partial in tmp_path.glob(".*.partial-*")):
            shutil.copytree(whole, target, dirs_exist_ok=True)
        with lock(place):
            yield

    monkeypatch.setattr(publishing, "target_lock", slower)
    place = target.stat().st_ino
    neort.load(bundle_path, packed_weights=tmp_path)
    assert only_folder(tmp_path).stat().st_ino == place


def test_a_folder_that_is_missing_while_it_is_replaced_is_waited_for(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    neort.load(bundle_path, packed_weights=tmp_path)
    target = only_folder(tmp_path)
    aside = target.rename(tmp_path.with_name("aside"))
    lock = target_lock

    @contextlib.contextmanager
    def waited_for(place: Path) -> Iterator[None]:
        with lock(place):
            aside.rename(target)  # what the process that had the lock before did
            yield

    monkeypatch.setattr(packed, "target_lock", waited_for)
    monkeypatch.setattr(packed, "_make", lambda *_: pytest.fail("it was made again"))
    neort.load(bundle_path, packed_weights=tmp_path)


def test_another_bundle_has_other_packed_weights(
    bundle_path: Path, bundle_copy: Path, replace_file: Callable[[str, bytes], None], tmp_path: Path
) -> None:
    weights = bytearray((bundle_copy / "weights.data").read_bytes())
    weights[-1] ^= 1
    replace_file("weights.data", bytes(weights))
    folder = tmp_path / "packed"
    for path in (bundle_path, bundle_copy):
        neort.load(path, packed_weights=folder)
    assert len(list(folder.iterdir())) == 2


def test_too_little_space_is_one_error_and_leaves_nothing(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=4321))
    with pytest.raises(StorageError, match=r"need [\d,]+ bytes in .*, which has 4,321 free"):
        neort.load(bundle_path, packed_weights=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="needs a limit of the system's")
def test_weights_that_can_only_be_written_in_part_are_one_error_and_leave_nothing(tmp_path: Path) -> None:
    """As where another process fills the disk meanwhile."""
    program = """
import resource, sys
import neort
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
try:
    neort.load(packed_weights=sys.argv[1])
except neort.StorageError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, *QUIET, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(f"packed weights cannot be written to {tmp_path}, which has ")
    assert not list(tmp_path.iterdir())


def test_an_interrupt_leaves_nothing(bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(options: object, folder: Path) -> None:
        (folder / packed.DATA).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("neort.backend.session.save_packed", interrupt)
    with pytest.raises(KeyboardInterrupt):
        neort.load(bundle_path, packed_weights=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_one_error(bundle_path: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(StorageError, match="packed weights cannot be written"):
        neort.load(bundle_path, packed_weights=file / "folder")


def test_the_command_line_takes_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "It was", "--max-new-tokens", "3", "--packed-weights", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("It was")
    assert only_folder(tmp_path).is_dir()
