"""Puts files into the cache: under a lock, whole or not at all, and where the hub's other clients look for them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from ..files import FileLock, synchronize
from ..hub import CachedRepository
from ..paths import open_regular, read_regular

__all__ = ["Digests", "Store", "Wanted"]

BLOCK = 1 << 20  # bytes read at a time
SHARED = 0o666  # permissions of a lock: several users may share a cache
PATIENCE = 1.0  # seconds after which a lock is asked for again
GIT = 40  # digits of git's hashes


@dataclass(frozen=True)
class Wanted:
    """A file of a bundle, as the manifest lists it; ``path`` is the one in the repository."""

    path: str
    size: int
    sha256: str


class Digests:
    """The hashes of a file that is ``size`` bytes long, as its bytes come."""

    def __init__(self, size: int) -> None:
        self._sha256 = hashlib.sha256()
        self._git = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)

    def update(self, data: memoryview | bytes) -> None:
        self._sha256.update(data)
        self._git.update(data)

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    @property
    def git(self) -> str:
        """What git calls a file with these contents."""
        return self._git.hexdigest()

    def name(self, blob: str) -> bool:
        """Whether a blob with these contents is called so."""
        return blob == (self.git if len(blob) == GIT else self.sha256)

    def are(self, wanted: Wanted, blob: str) -> bool:
        """Whether a file is the wanted one, and the one that a blob is named by."""
        return self.sha256 == wanted.sha256 and self.name(blob)


class Store:
    """A repository in the cache, to write to."""

    def __init__(self, cached: CachedRepository, tell: Callable[[str], None] = lambda _: None) -> None:
        self.cached = cached
        self._tell = tell
        self._new: set[str] = set()

    @contextlib.contextmanager
    def locked(self, blob: str) -> Iterator[None]:
        """Be the only process that fetches a blob, whichever of the hub's clients the others are."""
        self.cached.locks.mkdir(parents=True, exist_ok=True)
        self.cached.blobs.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.cached.locks / f"{blob}.lock", mode=SHARED)
        try:
            if lock.take() is False:
                self._tell("waiting for another process that fetches the same file")
                while lock.take(seconds=PATIENCE) is False:
                    pass
            yield
        finally:
            lock.close()

    def has_blob(self, blob: str) -> bool:
        return (self.cached.blobs / blob).is_file()

    def holds(self, blob: str, wanted: Wanted) -> bool:
        """Whether a blob is there, and is the wanted file; a damaged one is removed. Raises OSError."""
        file = self.cached.blobs / blob
        if _is(file, wanted):
            return True
        if not _is_sound(file):
            file.unlink(missing_ok=True)
        return False

    def has(self, commit: str, wanted: Wanted) -> bool:
        """Whether a commit's file is there, and is the wanted one; a damaged one is removed, with its contents.

        Sound contents, by their name, stay where the manifest alone lists others: they are other clients', too. Raises
        OSError where the system cannot read them.
        """
        file = self.cached.snapshot(commit) / wanted.path
        if _is(file, wanted):
            return True
        if os.path.lexists(file):
            blob = Path(os.path.realpath(file))
            if blob.parent == Path(os.path.realpath(self.cached.blobs)):
                if _is_sound(blob):
                    return False
                blob.unlink(missing_ok=True)
            file.unlink(missing_ok=True)
        return False

    @contextlib.contextmanager
    def partial(self, blob: str) -> Iterator[FileIO]:
        """What has arrived of a blob, to read and to write on."""
        with FileIO(self.cached.partial(blob), "r+", opener=_create) as stream:
            yield stream

    def finish(self, blob: str) -> None:
        """Let what has arrived of a blob be the blob."""
        whole = self.cached.blobs / blob
        try:
            self.cached.partial(blob).replace(whole)
        except FileNotFoundError:  # another process was faster, where locks lock nothing
            if not whole.is_file():
                raise
        self._new.add(blob)

    def put(self, blob: str, contents: bytes) -> None:
        """Write a small blob, unless it is there with these contents."""
        file = self.cached.blobs / blob
        with contextlib.suppress(OSError):
            if read_regular(file, len(contents)) == contents:
                return
        self._place(contents, file)
        self._new.add(blob)

    def link(self, blob: str, commit: str, path: str) -> None:
        """Let a commit's file be a blob: by a link, or where the system makes none, by its contents."""
        file, contents = self.cached.snapshot(commit) / path, self.cached.blobs / blob
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = self._beside()
        try:
            beside.symlink_to(os.path.relpath(contents, file.parent))
        except (OSError, NotImplementedError):
            if blob in self._new:  # nothing else can be linked to it
                contents.replace(file)
                self._new.discard(blob)
                return
            shutil.copyfile(contents, beside)
        beside.replace(file)

    def refer(self, revision: str, commit: str) -> None:
        """Note which commit a branch or tag is."""
        ref = self.cached.ref(revision)
        if self.cached.commit_of(revision) != commit:
            ref.parent.mkdir(parents=True, exist_ok=True)
            self._place(commit.encode(), ref)

    def _place(self, contents: bytes, target: Path) -> None:
        beside = self._beside()
        try:
            with beside.open("xb") as stream:
                stream.write(contents)
                stream.flush()
                synchronize(stream.fileno())
            beside.replace(target)
        finally:
            beside.unlink(missing_ok=True)

    def _beside(self) -> Path:
        """A new name among the blobs, where no client takes it for a file of a commit, or for a revision."""
        self.cached.blobs.mkdir(parents=True, exist_ok=True)
        return self.cached.partial(secrets.token_hex(8))


def _create(name: str, _: int) -> int:
    return os.open(name, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0), 0o666)


def _is(file: Path, wanted: Wanted) -> bool:
    """Whether a file is there and has the wanted contents. Raises OSError where the system cannot read it."""
    try:
        with open_regular(file) as stream:
            if os.fstat(stream.fileno()).st_size != wanted.size:
                return False
            digest = hashlib.sha256()
            for part in _parts(stream):
                digest.update(part)
    except FileNotFoundError:
        return False
    return digest.hexdigest() == wanted.sha256


def _is_sound(blob: Path) -> bool:
    """Whether a blob is there and has the contents that it is named by. Raises OSError where it cannot be read."""
    try:
        with open_regular(blob) as stream:
            digests = Digests(os.fstat(stream.fileno()).st_size)
            for part in _parts(stream):
                digests.update(part)
    except FileNotFoundError:
        return False
    return digests.name(blob.name)


def _parts(stream: FileIO) -> Iterator[memoryview]:
    """What a file holds, each part until the next one."""
    buffer = memoryview(bytearray(BLOCK))
    while count := stream.readinto(buffer):
        yield buffer[:count]
