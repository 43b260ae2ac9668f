"""A file or a folder is there whole or not at all: after errors, after Ctrl-C at any line, and on the disk."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from neort import StorageError, files
from neort.files import (
    locks,
    partial_folder,
    partial_names,
    publish_folder,
    published_file,
    publishing,
    remove_leftovers,
    storage_errors,
)
from neort.files.exchange import exchange as exchange_folders
from neort.files.locks import FileLock
from patience import PATIENCE
from processes import running

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
    monkeypatch.setattr(publishing, "exchange", lambda *_: False)
    monkeypatch.setattr(publishing, "_swap", lambda *_: pytest.fail("the target was moved"))
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

    monkeypatch.setattr(publishing, "exchange", lambda *_: False)
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


@POSIX_ONLY
@pytest.mark.parametrize("kind", ["folder", "FIFO", "socket", "link to a device"])
@pytest.mark.parametrize("late", [False, True])
def test_what_is_no_regular_file_is_refused_in_one_sentence_and_stays(kind: str, late: bool, target: Path) -> None:
    def make() -> None:
        if kind == "folder":
            target.mkdir()
        elif kind == "FIFO":
            os.mkfifo(target)
        elif kind == "socket":
            with socket.socket(socket.AF_UNIX) as listener, contextlib.chdir(target.parent):
                listener.bind(target.name)
        else:
            target.symlink_to(os.devnull)

    if not late:
        make()
    with pytest.raises(StorageError, match=f"target, which is a {kind.split()[-1]}; give a file"):  # noqa: PT012, SIM117
        with published_file(target) as stream:
            stream.write(b"new")
            if late:
                make()
    assert names(target.parent) == ["target"]
    assert not target.is_file()


@POSIX_ONLY
def test_a_folder_replaces_nothing_but_a_folder(target: Path) -> None:
    target.write_text("old")
    with pytest.raises(NotADirectoryError):
        publish_a_folder(target, "new")
    assert contents(target) == {"old"}
    assert names(target.parent) == ["target"]


def without_exchange(*_: object) -> bool:
    return False


def exchange_of(possible: bool) -> Callable[..., bool]:
    """What exchanges two folders where that is possible, and what says that it is not."""
    return exchange_folders if possible else without_exchange


@pytest.fixture(params=[True, False], ids=["exchanged", "renamed twice"])
def exchange(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether two folders may change places in one step."""
    if not request.param:
        monkeypatch.setattr(publishing, "exchange", without_exchange)
    return bool(request.param)


def test_a_folder_is_replaced_as_a_whole(exchange: bool, target: Path) -> None:
    for content in ("old", "new"):
        publish_a_folder(target, content)
        assert contents(target) == {content}
        assert names(target.parent) == ["target"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems cannot exchange folders")
def test_a_folder_that_is_replaced_is_never_missing(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_a_folder(target, "old")
    monkeypatch.setattr(publishing, "_swap", lambda *_: pytest.fail("two renames"))
    publish_a_folder(target, "new")
    assert contents(target) == {"new"}


# What killed processes leave

WRITE = """
import contextlib, sys
from pathlib import Path
from neort import files
with contextlib.ExitStack() as writing:
    for target in sys.argv[2:]:
        writing.enter_context(getattr(files, sys.argv[1])(Path(target)))
    print("ready", flush=True)
    sys.stdin.read()
"""
WRITERS = {"published_file": publish_a_file, "partial_folder": publish_a_folder}


@contextlib.contextmanager
def live_writer(writer: str, *targets: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process in the middle of writing."""
    with running(WRITE, writer, *map(os.fspath, targets)) as process:
        yield process


@pytest.mark.parametrize("writer", WRITERS)
def test_what_a_live_process_writes_stays_until_it_is_killed(writer: str, tmp_path: Path) -> None:
    targets = [tmp_path / str(i) / name for i, name in enumerate(("target", "a[1]*", "x" * 240))]
    for target in targets:
        target.parent.mkdir()
    with live_writer(writer, *targets) as process:
        there = [names(target.parent) for target in targets]
        assert [len(found) for found in there] == [2] * 3, "the partial one and its lock"
        for target in targets:
            remove_leftovers(target)
        assert [names(target.parent) for target in targets] == there
        process.kill()
        process.wait()
        for target in targets:
            remove_leftovers(target.with_name("another"))
        assert [names(target.parent) for target in targets] == there, "they are no leftovers of another target"
        for target in targets:
            remove_leftovers(target)
    assert [names(target.parent) for target in targets] == [[]] * 3


@pytest.mark.parametrize("writer", WRITERS)
def test_two_processes_write_one_target_and_both_end_well(writer: str, target: Path) -> None:
    with live_writer(writer, target) as process:
        WRITERS[writer](target, "new")
        assert len(names(target.parent)) == 3
        process.communicate()
        assert process.returncode == 0
    assert names(target.parent) == ["target"]


def test_threads_write_one_target_at_once(exchange: bool, target: Path) -> None:
    def write(number: int) -> None:
        for turn in range(10):
            publish_a_folder(target, f"{number} {turn}")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(4)))
    assert len(contents(target)) == 1
    assert names(target.parent) == ["target"]


def test_what_another_thread_writes_is_left_alone(target: Path) -> None:
    with partial_folder(target) as partial:
        remove_leftovers(target)
        publish_a_file(target, "new")
        assert partial.is_dir()


@POSIX_ONLY
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("writer", WRITERS)
def test_a_forked_child_leaves_all_to_its_parent(writer: str, target: Path) -> None:
    class ChildEndsError(Exception):
        pass

    try:
        with getattr(files, writer)(target):
            there = names(target.parent)
            child = os.fork()
            if not child:
                raise ChildEndsError
            os.waitpid(child, 0)
            assert names(target.parent) == there
            remove_leftovers(target)
            assert names(target.parent) == there, "the child's end does not free its parent's lock"
    except ChildEndsError:
        os._exit(0)


@pytest.mark.parametrize("free", [True, False])
def test_a_lock_that_is_left_over_goes_when_it_is_free(free: bool, target: Path) -> None:
    for name in (".target.partial-lock", ".target.partial-0123abcd.lock"):
        lock = FileLock(target.with_name(name))
        assert lock.take()
        if free:
            lock.close()
        remove_leftovers(target)
        assert names(target.parent) == ([] if free else [name])
        lock.remove()
        assert names(target.parent) == []


def test_a_lock_whose_file_was_removed_meanwhile_is_taken_anew(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that cleans up finds the lock between its making and its taking."""
    take = locks._lock
    removed: list[int] = []

    def late(handle: int) -> bool | None:
        if not removed:
            target.unlink()
            removed.append(handle)
        return take(handle)

    monkeypatch.setattr(locks, "_lock", late)
    lock = FileLock(target)
    assert lock.take(seconds=PATIENCE)
    assert FileLock(target).take() is False
    lock.remove()
    assert removed
    assert names(target.parent) == []


@pytest.mark.parametrize("publish", PUBLISH)
def test_where_no_lock_can_be_taken_the_target_is_replaced_all_the_same(
    publish: Publish, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_lock", lambda _: None)
    for content in ("old", "new"):
        publish(target, content)
        assert contents(target) == {content}
        assert names(target.parent) == ["target"]


def test_without_locks_what_is_being_written_stays(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_lock", lambda _: None)
    with partial_folder(target) as partial:
        remove_leftovers(target)
        assert names(target.parent) == [partial.name]
        assert partial.name.endswith(f"-{os.getpid()}")


def test_a_lock_that_cannot_be_asked_for_protects_what_is_there(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a network's file system whose server is older than its clients."""
    monkeypatch.setattr(locks, "_lock", lambda _: None)
    for name in (".target.partial-0123abcd", ".target.partial-0123abcd.lock"):
        target.with_name(name).touch()
    remove_leftovers(target)
    assert len(names(target.parent)) == 2


def test_the_order_of_windows_ends_with_no_file_either(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There a file is closed before it is removed."""
    monkeypatch.setattr(locks, "ON_WINDOWS", True)
    for content in ("old", "new"):
        publish_a_folder(target, content)
        assert names(target.parent) == ["target"]


# What earlier versions left, and what is left where there are no locks


def ended() -> int:
    """The id of a process that is gone."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@POSIX_ONLY
@pytest.mark.parametrize("kind", ["", "old-"])
def test_what_names_prove_to_be_of_a_dead_process_is_removed(kind: str, target: Path) -> None:
    publish_a_file(target, "new")
    target.with_name(f".target.partial-{kind}0123abcd-{partial_names._host()}-{ended()}").mkdir()
    remove_leftovers(target)
    assert names(target.parent) == ["target"]


@POSIX_ONLY
@pytest.mark.parametrize("name", ["old-0123abcd-{}", "0123abcd-{}.old"])
def test_an_old_target_that_a_dead_process_had_put_aside_returns(name: str, target: Path) -> None:
    publish_a_file(target, "old")
    host = f"{partial_names._host()}-{ended()}"
    target.rename(target.with_name(f".target.partial-{name.format(host)}"))
    target.with_name(f".target.partial-0123abcd-{host}").mkdir()
    remove_leftovers(target)
    assert names(target.parent) == ["target"]
    assert contents(target) == {"old"}


def test_what_a_former_process_with_the_same_id_left_is_removed(target: Path) -> None:
    """In containers, process ids begin anew with each start."""
    (target.parent / f".target.partial-0123abcd-{partial_names._host()}-{os.getpid()}").mkdir()
    remove_leftovers(target)
    assert names(target.parent) == []


def test_what_processes_of_another_host_write_is_left_alone(target: Path) -> None:
    """Their ids say nothing here."""
    partial = target.parent / f".target.partial-0123abcd-00000000-{ended()}"
    partial.mkdir()
    remove_leftovers(target)
    assert partial.is_dir()


def test_leftovers_without_a_folder_are_none(target: Path) -> None:
    remove_leftovers(target / "missing" / "target")


# Killed at every fifth line

ON_LINUX = sys.platform.startswith("linux")
# How it is written, what was there before, and how two folders change places.
CASES = [
    "published_file new exchanged",
    "published_file replaced exchanged",
    "partial_folder new exchanged",
    "partial_folder replaced " + ("exchanged" if ON_LINUX else "renamed"),
    "partial_folder replaced renamed",
]

KILLED = """
import os, signal, sys
from pathlib import Path
from neort import files
from neort.files import publishing
sys.path.insert(0, sys.argv[1])
from test_files import WRITERS, contents, exchange_of, names

room = os.path.dirname(files.__file__)
os.fsync = lambda handle: None  # what a process has written outlives it in any case

def killed(at):
    left = at
    def trace(frame, event, argument):
        nonlocal left
        if os.path.dirname(frame.f_code.co_filename) != room:
            return None
        if event == "line":
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace
    return trace

def check(publish, existing, exchange, folder):
    for line in range(0, 2000, 5):
        target = folder / str(line) / "target"
        target.parent.mkdir(parents=True)
        if existing:
            publish(target, "old")
        child = os.fork()
        if not child:
            sys.settrace(killed(line))
            publish(target, "new")
            sys.settrace(None)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        found = contents(target) if target.exists() else set()
        whole = [{"new"}, {"old"} if existing else set()] + ([] if exchange else [set()])
        assert found in whole, (folder.name, line, found)
        files.remove_leftovers(target)
        later = contents(target)
        assert later in ([{"new"}, {"old"}] if existing else [{"new"}, set()]), (folder.name, line, later)
        assert names(target.parent) in (["target"], []), (folder.name, line, names(target.parent))
        if status == 0:
            return line

for case in sys.argv[3:]:
    writer, existing, exchange = case.split()
    publishing.exchange = exchange_of(exchange == "exchanged")
    place = Path(sys.argv[2], case)
    print(check(WRITERS[writer], existing == "replaced", exchange == "exchanged", place))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_process_killed_at_a_line_leaves_a_whole_target_and_nothing_that_the_next_does_not_remove(
    tmp_path: Path,
) -> None:
    here = os.fspath(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED, here, os.fspath(tmp_path), *dict.fromkeys(CASES)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.stderr == ""
    lines = [int(line) for line in done.stdout.split()]
    assert len(lines) == len(dict.fromkeys(CASES))
    assert min(lines) > 50, "lines at which it was killed"


# Interruptions


ROOM = os.path.dirname(files.__file__)


class Interrupted:
    """Raises KeyboardInterrupt at one of the lines of the room under test."""

    def __init__(self, at: int) -> None:
        self.left = at
        self.raised = False

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        if os.path.dirname(frame.f_code.co_filename) != ROOM:
            return None
        if event == "line" and not self.raised:
            self.left -= 1
            if self.left < 0:
                self.raised = True
                raise KeyboardInterrupt
        return self


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # a stream that an interruption kept from being closed
@pytest.mark.parametrize("case", dict.fromkeys(CASES))
def test_ctrl_c_at_any_line_leaves_the_old_one_or_the_new_one(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, kind, way = case.split()
    publish, existing = WRITERS[writer], kind == "replaced"
    monkeypatch.setattr(publishing, "exchange", exchange_of(way == "exchanged"))
    monkeypatch.setattr(os, "fsync", lambda handle: None)
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
        assert names(target.parent) == (["target"] if found else []), f"interrupted at line {line} of the run"
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
