"""Names beside a target for what is half-written, and how what a killed process left is told from what is alive.

    .NAME.partial-RANDOM            a file or folder that is being written
    .NAME.partial-RANDOM.old        the target that it replaces, between two renames
    .NAME.partial-RANDOM.lock       locked while its writer lives
    .NAME.partial-lock              locked while the target is replaced

A lock is made before what it protects and removed after it. So where a process can take one, what has its name is a
leftover: on any system, and whoever wrote it, in another container, say. What has no lock is nobody's to remove.

Where the file system knows no locks, names are `.NAME.partial-RANDOM-HOST-PID`: there, as in names of earlier versions,
the process id tells, on the host that it belongs to and where a process may be asked for.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import hashlib
import os
import platform
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from .locks import ON_WINDOWS, FileLock

__all__ = ["PARTIAL", "aside", "partial_name", "remove_folder", "remove_leftovers", "target_lock"]

PARTIAL = "partial"
LONGEST_STEM = 200  # bytes of a name within a partial name, for which file systems have 255
PATIENCE = 10.0  # seconds in which a lock that is held for a few renames comes free, if its holder is not stopped

_in_use: set[str] = set()  # partial names that this process writes to now


@contextlib.contextmanager
def partial_name(target: Path) -> Iterator[Path]:
    """Yield a path beside ``target`` that no one else has, and that no one takes for a leftover within the block.

    What is there when the block ends is removed; a target that was put `aside` returns, unless there is another by
    then. A child that was forked within the block leaves all that to its parent.

    Raises OSError where the target's folder is missing or cannot be written to.
    """
    process = os.getpid()
    partial = _beside(target, secrets.token_hex(8))
    lock = FileLock(partial.with_name(f"{partial.name}.lock"))
    try:
        try:
            if not lock.take(seconds=PATIENCE):
                partial = partial.with_name(f"{partial.name}-{_host()}-{process}")
            _in_use.add(partial.name)
            yield partial
        finally:
            _give_up(partial, target, lock, process)
    finally:  # once more: Ctrl-C may have come in the middle
        _give_up(partial, target, lock, process)


@contextlib.contextmanager
def target_lock(target: Path) -> Iterator[None]:
    """Be the only one who replaces ``target``, within the block.

    Without a lock where the file system knows none, and where its holder is stopped in the middle: then two at once
    end in one or the other, or in an error of one of them.
    """
    lock = FileLock(_beside(target, "lock"))
    try:
        try:
            with contextlib.suppress(OSError):
                lock.take(seconds=PATIENCE)
            yield
        finally:
            lock.remove()
    finally:
        lock.remove()


def remove_leftovers(target: Path) -> None:
    """Remove what killed processes left beside ``target``; an old target that was being replaced returns.

    What live processes write stays, and so does what nothing is known of.
    """
    stem = _stem(target)
    lock_name = re.compile(rf"(?P<partial>{re.escape(stem)}[0-9a-f]+)\.lock")
    earlier = re.compile(
        rf"(?P<partial>{re.escape(stem)}(?P<old>old-)?[0-9a-f]+-{_host()}-(?P<pid>\d+))(?P<aside>\.old)?"
    )
    for leftover in sorted(target.parent.glob(f"{glob.escape(stem)}*")):
        with contextlib.suppress(OSError):  # another process was faster, or the folder is not ours
            if leftover == _beside(target, "lock"):
                _remove_unlocked(leftover, lambda: True)
            elif found := lock_name.fullmatch(leftover.name):
                partial = leftover.with_name(found["partial"])
                _remove_unlocked(leftover, functools.partial(_clear, partial, aside(partial), target))
            elif (found := earlier.fullmatch(leftover.name)) and not _is_written(found["partial"], int(found["pid"])):
                old = leftover if found["old"] or found["aside"] else aside(leftover)
                _clear(leftover, old, target)


def aside(partial: Path) -> Path:
    """Where the old target is while what is at ``partial`` takes its place."""
    return partial.with_name(f"{partial.name}.old")


def remove_folder(folder: Path) -> None:
    """Remove a folder, a link or a file, if there; Ctrl-C does not leave half of it."""
    try:
        _remove(folder)
    except KeyboardInterrupt:
        _remove(folder)
        raise


def _remove(folder: Path) -> None:
    if not os.path.lexists(folder):
        return
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            folder.unlink()


def _remove_unlocked(file: Path, clear: Callable[[], bool]) -> None:
    """Clear what belongs to a lock, and then remove the lock, unless a live process has it."""
    lock = FileLock(file)
    try:
        if lock.take(create=False) and clear():
            lock.remove()
    finally:
        lock.close()


def _give_up(partial: Path, target: Path, lock: FileLock, process: int) -> None:
    if os.getpid() == process and _clear(partial, aside(partial), target):
        lock.remove()
        with contextlib.suppress(OSError):
            lock.file.unlink(missing_ok=True)  # if it was made but not locked
    lock.close()
    _in_use.discard(partial.name)


def _clear(partial: Path, old: Path, target: Path) -> bool:
    """Remove both, but for an old target that has no successor, which returns. Whether both are gone."""
    if os.path.lexists(old):
        with target_lock(target), contextlib.suppress(OSError):
            if not os.path.lexists(target):
                old.rename(target)
        remove_folder(old)
    remove_folder(partial)
    return not os.path.lexists(partial) and not os.path.lexists(old)


def _beside(target: Path, ending: str) -> Path:
    return target.with_name(f"{_stem(target)}{ending}")


def _stem(target: Path) -> str:
    """How the partial names of a target begin; a long name is cut, and told from others by its hash."""
    stem = target.name
    if len(os.fsencode(stem)) > LONGEST_STEM:
        digest = hashlib.sha256(os.fsencode(stem)).hexdigest()[:8]
        while len(os.fsencode(stem)) > LONGEST_STEM - len(digest) - 1:
            stem = stem[:-1]
        stem = f"{stem}~{digest}"
    return f".{stem}.{PARTIAL}-"


# Where there are no locks


@functools.cache
def _host() -> str:
    """Digits for the processes that a pid is counted among: those of a host, or of a container."""
    namespace = ""
    with contextlib.suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(f"{platform.node()} {namespace}".encode()).hexdigest()[:8]


def _is_written(name: str, pid: int) -> bool:
    """Whether the process with this id may still write what has this partial name."""
    if pid == os.getpid():
        return name in _in_use  # else it is of a former process with the same id
    if ON_WINDOWS:  # there os.kill would end the process
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True
