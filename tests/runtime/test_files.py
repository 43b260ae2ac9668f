"""A file or a folder is there whole or not at all: after errors, after Ctrl-C at any line, and on the disk."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from neort import StorageError, files
from neort.files import partial_folder, publish_folder, published_file, storage_errors

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
    cause = "[Errno 28] No space left on device"
    assert str(caught.value) == f"the file cannot be written to {tmp_path} ({cause}); make room"
    assert isinstance(caught.value.__cause__, OSError)


def test_a_sentence_that_was_found_already_is_kept(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nearer to the cause"), storage_errors("all of it", tmp_path, "make room"):
        raise StorageError("nearer to the cause")
