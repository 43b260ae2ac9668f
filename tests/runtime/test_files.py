"""A file or a folder is there whole or not at all: after errors, after Ctrl-C at any line, and on the disk."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from neort import StorageError, files
from neort.files import partial_folder, publish_folder, published_file, remove_leftovers, storage_errors

Publish = Callable[[Path, str], None]


def publish_a_file(target: Path, content: str) -> None:
    with published_file(target) as stream:
        stream.write(content.encode())


def publish_a_folder(target: Path, content: str) -> None:
    with partial_folder(target) as partial:
        (partial / "inner").mkdir()
        for name in ("first", "inner/second"):
            (partial / name).write_text(content)
        publish_folder(partial, target)


PUBLISH = [publish_a_file, publish_a_folder]


def contents(target: Path) -> set[str]:
    """What the files of a target hold: one thing, or nothing, where it is whole."""
    found = [target] if target.is_file() else [path for path in target.rglob("*") if path.is_file()]
    return {file.read_text() for file in found}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


@pytest.mark.parametrize("publish", PUBLISH)
def test_the_new_one_takes_the_place_of_the_old(publish: Publish, target: Path) -> None:
    for content in ("old", "new"):
        publish(target, content)
        assert contents(target) == {content}
        assert names(target.parent) == ["target"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, GeneratorExit])
@pytest.mark.parametrize("existing", [True, False])
def test_a_file_stays_as_it_was_when_writing_fails(error: type[BaseException], existing: bool, target: Path) -> None:
    if existing:
        publish_a_file(target, "old")
    with pytest.raises(error), published_file(target) as stream:  # noqa: PT012
        stream.write(b"half")
        raise error
    assert names(target.parent) == (["target"] if existing else [])
    assert contents(target) == ({"old"} if existing else set())


def test_an_unpublished_folder_is_removed(target: Path) -> None:
    with partial_folder(target) as partial:
        (partial / "half").touch()
    assert names(target.parent) == []


def test_several_folders_for_one_target_are_made_side_by_side(target: Path) -> None:
    with partial_folder(target) as first, partial_folder(target) as second:
        assert first != second
        assert first.parent == second.parent == target.parent


# What is there already

POSIX_ONLY = pytest.mark.skipif(os.name != "posix", reason="needs links, permissions and signals")


def test_a_folder_that_is_not_to_be_replaced_never_leaves_its_place(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_a_folder(target, "old")
    monkeypatch.setattr(files, "_swap", lambda *_: pytest.fail("the target was moved"))
    with partial_folder(target) as partial, pytest.raises(FileExistsError):  # noqa: PT012
        (partial / "first").write_text("new")
        publish_folder(partial, target, replace=lambda: False)
    assert contents(target) == {"old"}
    assert names(target.parent) == ["target"]


def test_whether_a_folder_is_replaced_is_asked_after_the_new_one_is_on_the_disk(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    publish_a_folder(target, "old")
    fsync = os.fsync

    def noted(handle: int) -> None:
        events.append("synchronize")
        fsync(handle)

    def replace() -> bool:
        events.append("asked")
        return True

    monkeypatch.setattr(os, "fsync", noted)
    with partial_folder(target) as partial:
        (partial / "first").write_text("new")
        publish_folder(partial, target, replace=replace)
    asked = events.index("asked")
    assert events[:asked].count("synchronize") == (2 if hasattr(os, "O_DIRECTORY") else 1)
    assert contents(target) == {"new"}


def test_two_replacements_of_one_process_put_the_old_ones_aside_under_different_names(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aside: list[Path] = []
    rename = Path.rename

    def noted(self: Path, place: Path) -> Path:
        if self == target:
            aside.append(place)
        return rename(self, place)

    monkeypatch.setattr(Path, "rename", noted)
    for content in "123":
        publish_a_folder(target, content)
    assert len(set(aside)) == 2


@POSIX_ONLY
@pytest.mark.parametrize("existing", [True, False])
def test_what_a_link_points_to_is_written_and_the_link_stays(existing: bool, target: Path, tmp_path: Path) -> None:
    real = tmp_path / "elsewhere" / "real"
    real.parent.mkdir()
    if existing:
        real.write_text("old")
    (tmp_path / "second").symlink_to("elsewhere/real")
    target.symlink_to("second")
    publish_a_file(target, "new")
    assert target.is_symlink()
    assert real.read_text() == "new"
    assert names(real.parent) == ["real"]


@POSIX_ONLY
def test_links_in_a_circle_are_an_error_and_stay(target: Path) -> None:
    target.symlink_to(target.name)
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        publish_a_file(target, "new")
    assert target.is_symlink()


@POSIX_ONLY
@pytest.mark.parametrize("permissions", [0o600, 0o640, 0o666, 0o400])
def test_an_existing_file_keeps_its_permissions(permissions: int, target: Path) -> None:
    target.touch()
    target.chmod(permissions)
    publish_a_file(target, "new")
    assert stat.S_IMODE(target.stat().st_mode) == permissions


@POSIX_ONLY
@pytest.mark.parametrize(("mode", "expected"), [(0o666, 0o644), (0o600, 0o600)])
def test_a_new_file_has_the_permissions_that_are_asked_for_cut_by_the_umask(
    mode: int, expected: int, target: Path
) -> None:
    before = os.umask(0o022)
    try:
        with published_file(target, mode=mode) as stream:
            assert stat.S_IMODE(os.fstat(stream.fileno()).st_mode) == expected
    finally:
        os.umask(before)
    assert stat.S_IMODE(target.stat().st_mode) == expected


@pytest.mark.parametrize("publish", PUBLISH)
@pytest.mark.parametrize("name", ["x" * 240, "x" * 255, "\u00e4" * 127])
def test_a_name_may_be_as_long_as_the_file_system_s(publish: Publish, name: str, tmp_path: Path) -> None:
    for content in ("old", "new"):
        publish(tmp_path / name, content)
        assert contents(tmp_path / name) == {content}
    assert names(tmp_path) == [name]


def test_a_folder_in_a_file_s_place_is_an_error_that_names_it(target: Path) -> None:
    target.mkdir()
    with pytest.raises(IsADirectoryError, match="target"):
        publish_a_file(target, "new")
    assert names(target.parent) == ["target"]
    assert names(target) == []


@POSIX_ONLY
def test_what_is_no_regular_file_is_not_replaced(target: Path) -> None:
    os.mkfifo(target)
    with pytest.raises(FileExistsError):
        publish_a_file(target, "new")
    assert target.is_fifo()


# What killed processes leave

WRITE = """
import os, signal, sys
from pathlib import Path
from neort import files
target = Path(sys.argv[2])
with getattr(files, sys.argv[1])(target):
    if sys.argv[3] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    print("ready", flush=True)
    sys.stdin.read()
"""
WRITERS = {"published_file": publish_a_file, "partial_folder": publish_a_folder}


def start(writer: str, target: Path, how: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITE, writer, os.fspath(target), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


@POSIX_ONLY
@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("name", ["target", "a[1]*", "x" * 240])
def test_what_a_killed_process_left_is_removed(writer: str, name: str, tmp_path: Path) -> None:
    target = tmp_path / name
    with start(writer, target, "killed") as process:
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 1, "the partial one is there"
    remove_leftovers(target.with_name("another"))
    assert len(names(tmp_path)) == 1, "it is no leftover of another target"
    remove_leftovers(target)
    assert names(tmp_path) == []


@POSIX_ONLY
@pytest.mark.parametrize("writer", WRITERS)
def test_what_a_live_process_writes_is_left_alone(writer: str, target: Path) -> None:
    with start(writer, target, "alive") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        remove_leftovers(target)
        assert len(names(target.parent)) == 1
        process.kill()


def test_what_another_thread_writes_is_left_alone(target: Path) -> None:
    with partial_folder(target) as partial:
        remove_leftovers(target)
        publish_a_file(target, "new")
        assert partial.is_dir()


def test_what_a_former_process_with_the_same_id_left_is_removed(target: Path) -> None:
    """In containers, process ids begin anew with each start."""
    (target.parent / f".target.partial-0123abcd-{files._host()}-{os.getpid()}").mkdir()
    remove_leftovers(target)
    assert names(target.parent) == []


def test_what_processes_of_another_host_write_is_left_alone(target: Path) -> None:
    """Their ids say nothing here."""
    finished = subprocess.Popen([sys.executable, "-c", ""])
    finished.wait()
    partial = target.parent / f".target.partial-0123abcd-00000000-{finished.pid}"
    partial.mkdir()
    remove_leftovers(target)
    assert partial.is_dir()


def test_leftovers_without_a_folder_are_none(target: Path) -> None:
    remove_leftovers(target / "missing" / "target")


# Interruptions


class Interrupted:
    """Raises KeyboardInterrupt at one of the lines of the module under test."""

    def __init__(self, at: int) -> None:
        self.left = at
        self.raised = False

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename != files.__file__:
            return None
        if event == "line" and not self.raised:
            self.left -= 1
            if self.left < 0:
                self.raised = True
                raise KeyboardInterrupt
        return self


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # a stream that an interruption kept from being closed
@pytest.mark.parametrize("publish", PUBLISH)
@pytest.mark.parametrize("existing", [True, False])
def test_ctrl_c_at_any_line_leaves_the_old_one_or_the_new_one(publish: Publish, existing: bool, tmp_path: Path) -> None:
    seen = set()
    for line in range(1000):
        target = tmp_path / str(line) / "target"
        target.parent.mkdir()
        if existing:
            publish(target, "old")
        trace, before = Interrupted(line), sys.gettrace()
        sys.settrace(trace)
        try:
            publish(target, "new")
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
        if not trace.raised:
            break
        found = contents(target) if target.exists() else set()
        assert found in ({"new"}, {"old"} if existing else set()), f"interrupted at line {line} of the run"
        seen |= found or {"nothing"}
    assert seen == {"new", "old" if existing else "nothing"}


# What is on the disk


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done, in order: "synchronize NAME" and "rename NAME"."""
    done: list[str] = []
    fsync, rename, replace = os.fsync, Path.rename, Path.replace

    def noted_fsync(handle: int) -> None:
        done.append(f"synchronize {Path(os.readlink(f'/proc/self/fd/{handle}')).name}")
        fsync(handle)

    def noted(move: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
        def wrapper(self: Path, place: Path) -> Path:
            done.append(f"rename {self.name}")
            return move(self, place)

        return wrapper

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "rename", noted(rename))
    monkeypatch.setattr(Path, "replace", noted(replace))
    return done


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks /proc which file is synchronized")
def test_a_file_is_on_the_disk_before_its_name_and_then_its_folder(disk: list[str], target: Path) -> None:
    publish_a_file(target, "new")
    written, renamed, folder = disk
    assert written == renamed.replace("rename", "synchronize")
    assert folder == f"synchronize {target.parent.name}"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks /proc which file is synchronized")
def test_all_of_a_folder_is_on_the_disk_before_its_name(disk: list[str], target: Path) -> None:
    publish_a_folder(target, "new")
    *before, last = disk
    partial = before[-1].removeprefix("rename ")
    assert before == [
        "synchronize second",
        "synchronize inner",
        "synchronize first",
        f"synchronize {partial}",
        f"rename {partial}",
    ]
    assert last == f"synchronize {target.parent.name}"


def failing(number: int) -> Callable[[int], None]:
    def fsync(_: int) -> None:
        raise OSError(number, os.strerror(number))

    return fsync


@pytest.mark.parametrize("publish", PUBLISH)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_what_does_not_reach_the_disk_is_not_published(
    publish: Publish, number: int, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(target, "old")
    monkeypatch.setattr(os, "fsync", failing(number))
    with pytest.raises(OSError, match=os.strerror(number)):
        publish(target, "new")
    assert contents(target) == {"old"}
    assert names(target.parent) == ["target"]


@pytest.mark.parametrize("publish", PUBLISH)
@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_without_synchronization_is_written_to_all_the_same(
    publish: Publish, number: int, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", failing(number))
    publish(target, "new")
    assert contents(target) == {"new"}


@pytest.mark.parametrize("publish", PUBLISH)
def test_a_system_that_cannot_open_folders_is_written_to_all_the_same(
    publish: Publish, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "O_DIRECTORY", raising=False)
    publish(target, "new")
    assert contents(target) == {"new"}


@pytest.mark.skipif(os.name != "posix", reason="needs symbolic links")
def test_a_link_to_nowhere_within_a_folder_does_no_harm(target: Path) -> None:
    with partial_folder(target) as partial:
        (partial / "link").symlink_to("nowhere")
        publish_folder(partial, target)
    assert (target / "link").is_symlink()


# What is told


def test_an_error_of_the_system_is_one_sentence_with_place_cause_and_remedy(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught, storage_errors("the file", tmp_path, "make room"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert str(caught.value) == f"the file cannot be written to {tmp_path} (No space left on device); make room"
    assert isinstance(caught.value.__cause__, OSError)
    assert (caught.value.errno, caught.value.strerror) == (errno.ENOSPC, "No space left on device")


def test_the_number_and_the_file_of_an_error_of_the_system_are_handed_on(tmp_path: Path) -> None:
    missing = tmp_path / "missing" / "file"
    with pytest.raises(StorageError) as caught, storage_errors("the file", missing, "make the folder"):
        publish_a_file(missing, "new")
    assert caught.value.errno == errno.ENOENT
    assert Path(caught.value.filename).parent == missing.parent
    assert str(caught.value).startswith(f"the file cannot be written to {missing} (")
    assert str(caught.value).endswith("make the folder")


def test_a_sentence_that_was_found_already_is_kept(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nearer to the cause"), storage_errors("all of it", tmp_path, "make room"):
        raise StorageError("nearer to the cause")
