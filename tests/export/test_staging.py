"""A bundle appears whole or not at all, whatever ends the export."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import neort
from neort import StorageError
from neort.files import partial_names, publishing
from neort_export import ExportError, Limits, export
from neort_export.staging import staged_folder
from processes import running

Replace = Callable[[str, object], None]


def write_bundle(target: Path, content: str, *, force: bool = False) -> None:
    with staged_folder(target, force=force) as folder:
        (folder / "manifest.json").write_text(content)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "bundle"


def test_the_folder_appears_when_it_is_complete(target: Path) -> None:
    with staged_folder(target, force=False) as folder:
        (folder / "manifest.json").write_text("new")
        assert not target.exists()
    assert names(target.parent) == ["bundle"]
    assert names(target) == ["manifest.json"]


def test_missing_parents_are_made(tmp_path: Path) -> None:
    write_bundle(tmp_path / "a" / "b" / "bundle", "new")
    assert (tmp_path / "a" / "b" / "bundle" / "manifest.json").read_text() == "new"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_nothing_is_left_of_a_run_that_fails(error: type[BaseException], target: Path) -> None:
    with pytest.raises(error), staged_folder(target, force=False) as folder:  # noqa: PT012
        (folder / "weights.data").write_bytes(b"half")
        raise error
    assert names(target.parent) == []


KILLED = """
import sys
from pathlib import Path
from neort_export.staging import staged_folder
with staged_folder(Path(sys.argv[1]), force=False) as folder:
    (folder / "weights.data").write_bytes(b"half")
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def live_run(target_name: str, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has written half of its bundle."""
    with running(KILLED, str(tmp_path / target_name)) as process:
        yield process


@pytest.mark.parametrize("target_name", ["bundle", "bundle[1]"])
def test_a_killed_run_leaves_no_bundle_and_the_next_run_cleans_up(
    target_name: str, live_run: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    target = tmp_path / target_name
    live_run.kill()
    live_run.wait()
    assert not target.exists()
    assert len(names(tmp_path)) == 2, "the half-written folder and its lock are there"
    write_bundle(target, "new")
    assert names(tmp_path) == [target_name]


@pytest.mark.parametrize("target_name", ["bundle"])
@pytest.mark.usefixtures("live_run")
def test_the_folder_of_a_live_run_is_left_alone(target_name: str, tmp_path: Path) -> None:
    write_bundle(tmp_path / target_name, "new")
    assert len(names(tmp_path)) == 3
    assert target_name in names(tmp_path)


def test_an_existing_target_is_refused_and_stays(target: Path) -> None:
    write_bundle(target, "old")
    with pytest.raises(ExportError, match="exists already; give another name, or --force"):
        write_bundle(target, "new")
    assert (target / "manifest.json").read_text() == "old"
    assert names(target.parent) == ["bundle"]


def test_force_replaces_a_bundle_and_all_of_it(target: Path) -> None:
    write_bundle(target, "old")
    (target / "stale.data").touch()
    write_bundle(target, "new", force=True)
    assert names(target) == ["manifest.json"]
    assert (target / "manifest.json").read_text() == "new"
    assert names(target.parent) == ["bundle"]


def test_force_fills_an_empty_folder(target: Path) -> None:
    target.mkdir()
    write_bundle(target, "new", force=True)
    assert names(target) == ["manifest.json"]


def a_folder(target: Path) -> None:
    target.mkdir()
    (target / "thesis.txt").write_text("years of work")


def a_file(target: Path) -> None:
    target.write_text("years of work")


def a_dangling_link(target: Path) -> None:
    target.symlink_to("nothing")


@pytest.mark.parametrize("make", [a_folder, a_file, a_dangling_link])
def test_force_refuses_what_is_no_bundle(make: Callable[[Path], None], target: Path) -> None:
    make(target)
    with pytest.raises(ExportError, match="--force does not replace it"):
        write_bundle(target, "new", force=True)
    assert names(target.parent) == ["bundle"]
    assert target.is_symlink() or target.is_file() or (target / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("make", [a_folder, a_file, a_dangling_link])
def test_what_appears_in_the_target_s_place_meanwhile_is_not_replaced(
    make: Callable[[Path], None], force: bool, target: Path
) -> None:
    with pytest.raises(ExportError), staged_folder(target, force=force) as folder:  # noqa: PT012
        (folder / "manifest.json").write_text("new")
        make(target)
    assert not target.is_dir() or names(target) == ["thesis.txt"]
    assert names(target.parent) == ["bundle"]


@pytest.mark.parametrize("force", [False, True])
def test_what_appears_in_the_last_moment_is_not_replaced(
    force: bool, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the target was looked at and while the new one is brought to the disk."""
    fsync = os.fsync

    def appear(handle: int) -> None:
        if not target.exists():
            a_folder(target)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", appear)
    with pytest.raises(ExportError):
        write_bundle(target, "new", force=force)
    assert names(target) == ["thesis.txt"]
    assert names(target.parent) == ["bundle"]


@pytest.mark.skipif(os.name == "nt", reason="needs links and FIFOs")
def test_force_follows_a_link_to_a_bundle_and_leaves_the_link(tmp_path: Path, target: Path) -> None:
    real = tmp_path / "elsewhere" / "real"
    write_bundle(real, "old")
    target.symlink_to(real)
    with pytest.raises(ExportError, match="exists already"):
        write_bundle(target, "new")
    write_bundle(target, "new", force=True)
    assert target.is_symlink()
    assert (real / "manifest.json").read_text() == "new"
    assert names(real.parent) == ["real"]


@pytest.mark.skipif(os.name == "nt", reason="needs links and FIFOs")
def test_a_fifo_is_refused(target: Path) -> None:
    os.mkfifo(target)
    with pytest.raises(ExportError, match="--force does not replace it"):
        write_bundle(target, "new", force=True)
    assert target.is_fifo()


def test_a_mount_point_is_refused_before_any_work(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target.mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda self: self == target)
    with pytest.raises(ExportError, match="mount point"), staged_folder(target, force=True):
        pytest.fail("it was begun")


def test_the_old_bundle_stays_when_the_new_one_cannot_be_renamed(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bundle(target, "old")
    rename = Path.rename

    def fails_for_stages(self: Path, place: Path) -> Path:
        if Path(place) == target and not self.name.endswith(".old"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(self, place)

    monkeypatch.setattr(publishing, "exchange", lambda *_: False)
    monkeypatch.setattr(Path, "rename", fails_for_stages)
    with pytest.raises(StorageError, match=rf"cannot be written to {re.escape(str(target))} .*make room"):
        write_bundle(target, "new", force=True)
    assert (target / "manifest.json").read_text() == "old"
    assert names(target.parent) == ["bundle"]


def test_a_parent_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"cannot create a folder in .*file.*; choose another place") as caught:
        write_bundle(tmp_path / "file" / "bundle", "new")
    assert caught.value.errno in (errno.ENOTDIR, errno.EEXIST, errno.ENOENT)


# Whole exports


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("stage", ["write_graph", "write_manifest", "write_tokenizer"])
def test_a_full_disk_is_told_with_the_free_bytes_and_leaves_nothing(
    stage: str, exporter: Replace, checkpoint: Path, target: Path
) -> None:
    exporter(stage, full_disk)
    with pytest.raises(StorageError, match=r"is full \([\d,]+ bytes free\); nothing was kept") as caught:
        export(checkpoint, target, quantization="fp32")
    assert str(target.parent) in str(caught.value)
    assert names(target.parent) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError], ids=["Ctrl-C", "error"])
def test_the_old_bundle_is_intact_after_a_forced_export_that_fails(
    error: type[BaseException], exporter: Replace, checkpoint: Path, fp32_bundle: Path, target: Path
) -> None:
    shutil.copytree(fp32_bundle, target)

    def fail(*_: object, **__: object) -> None:
        raise error

    exporter("measure", fail)
    with pytest.raises(error):
        export(checkpoint, target, quantization="fp32", force=True)
    assert names(target.parent) == ["bundle"]
    assert neort.load(target, check_weights=True).generate([1, 2], max_new_tokens=2).token_ids


def test_the_old_bundle_is_intact_after_the_disk_was_full(
    exporter: Replace, checkpoint: Path, fp32_bundle: Path, target: Path
) -> None:
    shutil.copytree(fp32_bundle, target)
    exporter("write_graph", full_disk)
    with pytest.raises(StorageError, match="bytes free"):
        export(checkpoint, target, force=True)
    assert names(target.parent) == ["bundle"]
    neort.load(target, check_weights=True)


def test_a_disk_that_is_too_small_is_found_out_before_anything_large_is_written(
    checkpoint: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(
        StorageError, match=r"takes [\d,]+ bytes and the disk .* has 1,000 bytes free; nothing was written"
    ):
        export(checkpoint, target, quantization="fp32")
    assert names(target.parent) == []


def test_other_errors_of_the_disk_are_told_with_the_target(exporter: Replace, checkpoint: Path, target: Path) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    exporter("write_graph", broken)
    with pytest.raises(StorageError, match=os.strerror(errno.EIO)):
        export(checkpoint, target)
    assert names(target.parent) == []


@pytest.mark.parametrize("quantization", ["int8", "fp32"])
def test_a_finished_export_holds_the_files_of_its_manifest_a_card_and_no_others(
    quantization: str, exporter: Replace, checkpoint: Path, target: Path
) -> None:
    """The fp32 graph that an int8 export is compared with is gone."""
    limits = Limits(mean_kl=1.0, perplexity_ratio=2.0)
    export(checkpoint, target, quantization=quantization, limits=limits)  # type: ignore[arg-type]
    assert names(target.parent) == ["bundle"]
    listed = neort.load(target, check_weights=True).bundle.file_names
    assert names(target) == sorted([*listed, "manifest.json", "README.md"])


@pytest.mark.parametrize("disk_full", [False, True])
def test_a_home_folder_s_tilde_is_understood(
    disk_full: bool, exporter: Replace, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    if disk_full:
        exporter("write_graph", full_disk)
        with pytest.raises(StorageError, match="bytes free"):
            export(checkpoint, "~/bundle", quantization="fp32")
    else:
        report = export(checkpoint, "~/bundle", quantization="fp32")
        assert report.path.resolve() == (tmp_path / "bundle").resolve()


def test_a_bundle_that_was_being_replaced_when_the_run_was_killed_returns(target: Path) -> None:
    finished = subprocess.Popen([sys.executable, "-c", ""])
    finished.wait()
    old = target.with_name(f".{target.name}.partial-old-0123abcd-{partial_names._host()}-{finished.pid}")
    old.mkdir()
    (old / "manifest.json").write_text("old")
    with pytest.raises(ExportError, match="exists already"):
        write_bundle(target, "new")
    assert (target / "manifest.json").read_text() == "old"
    assert names(target.parent) == ["bundle"]


def test_a_second_interruption_during_the_removal_leaves_nothing(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remove, calls = shutil.rmtree, []

    def interrupted_once(path: Path, ignore_errors: bool) -> None:
        calls.append(path)
        if len(calls) == 1:
            raise KeyboardInterrupt
        remove(path, ignore_errors=ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", interrupted_once)
    with pytest.raises(KeyboardInterrupt), staged_folder(target, force=False):
        raise KeyboardInterrupt
    assert names(target.parent) == []
