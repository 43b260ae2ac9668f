"""Brings one file from a server into the cache: resumed, measured and hashed while it comes."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from io import FileIO

from ..errors import BundleError
from ..files import synchronize
from .client import Answer
from .failures import NoAnswerError, StatusError, StrangeAnswerError, host_of
from .sources import Source
from .store import Digests, Store, Wanted

__all__ = ["Transfer"]

BLOCK = 1 << 18  # bytes at a time, at most
PAUSES = (1.0, 2.0, 4.0, 8.0)  # seconds, while no further bytes arrive
RANGE = re.compile(r"bytes (\d{1,19})-\d{1,19}/(\d{1,19}|\*)")
BEYOND = 416


class Transfer:
    """Fetches the files of one bundle."""

    def __init__(
        self,
        source: Source,
        store: Store,
        *,
        timeout: float,
        advance: Callable[[int], None] = lambda _: None,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        """``source`` has been looked at; ``advance`` is told of bytes that came, or that were in vain."""
        self._source, self._store = source, store
        self._client, self._label = source.client, str(source.name)
        self._timeout, self._advance, self._wait = timeout, advance, wait
        self._counted = 0

    def fetch(self, wanted: Wanted) -> None:
        """Fetch a file of the source's commit. A transfer that breaks goes on, as long as further bytes arrive.

        Raises AskingError where the server does not hand it out, BundleError where it is another file than the wanted
        one, OSError where the disk does not take it.
        """
        large = wanted.sha256  # what the hub calls it, if it is a large file
        if self._store.has_blob(large):
            with self._store.locked(large):
                if self._is_here(large, wanted):
                    self._advance(wanted.size)
                    return
        furthest, pauses = 0, iter(PAUSES)
        while True:
            blob, self._counted = None, 0
            try:
                with self._client.open(self._source.url(wanted.path), timeout=self._timeout, leave=False) as place:
                    blob = self._blob(place, wanted)
                    with self._store.locked(blob):
                        if self._is_here(blob, wanted):
                            self._count(wanted.size)
                        else:
                            self._receive(place, blob, wanted)
                            self._store.link(blob, self._source.commit, wanted.path)
                    return
            except NoAnswerError as error:
                self._count(-self._counted)
                arrived = self._store.cached.arrived(blob or "")
                if arrived > furthest:
                    furthest, pauses = arrived, iter(PAUSES)
                    continue
                pause = next(pauses, None)
                if pause is None or error.tried or not error.passes:
                    raise
                self._wait(pause)

    def _is_here(self, blob: str, wanted: Wanted) -> bool:
        """Whether the commit has its file by now, of a blob whose lock is held.

        Where there are no links, whoever had the lock before has left the file and no blob.
        """
        commit = self._source.commit
        if self._store.has(commit, wanted):
            return True
        held = self._store.holds(blob, wanted)
        if held:
            self._store.link(blob, commit, wanted.path)
        return held

    def _blob(self, place: Answer, wanted: Wanted) -> str:
        """The name of a file's contents. Raises BundleError where the server says that it has others."""
        named = self._source.blob_of(place.headers)
        size = place.headers.get("x-linked-size", str(wanted.size))
        if (named is not None and len(named) == 64 and named != wanted.sha256) or size != str(wanted.size):
            raise BundleError(
                f"{wanted.path} of {self._label} is not what the manifest lists: {host_of(place.url)} has {size} bytes "
                f"with the hash {named}, the manifest says {wanted.size} with the sha256 {wanted.sha256}; whoever "
                "publishes it has to upload the bundle anew"
            )
        return named or wanted.sha256

    def _receive(self, place: Answer, blob: str, wanted: Wanted) -> None:
        with self._store.partial(blob) as stream:
            digests, here = self._taken_up(stream, wanted)
            resumed = here > 0
            self._count(here)
            if here < wanted.size:
                with self._body(place, here) as body:
                    if here and body.status == 200:  # all of it, once more, over what is there
                        digests, here, resumed = self._from_start(stream, wanted), 0, False
                    self._check_announced(body, here, wanted)
                    self._write(body, stream, digests, wanted.size - here, wanted)
            if not digests.are(wanted, blob):
                self._drop(stream, wanted)
                if digests.name(blob):
                    raise BundleError(
                        f"{wanted.path} of {self._label} is not what the manifest lists: the repository's file has the "
                        f"sha256 {digests.sha256}, the manifest says {wanted.sha256}; whoever publishes it has to "
                        "upload the bundle anew"
                    )
                if resumed:
                    raise NoAnswerError("what had arrived before does not fit", place.url, passes=True)
                raise BundleError(
                    f"{wanted.path} of {self._label} arrived with the sha256 {digests.sha256}, and the manifest says "
                    f"{wanted.sha256}: it was damaged or changed on the way, and nothing of it is kept; pull it again"
                )
            synchronize(stream.fileno())
        self._store.finish(blob)

    def _taken_up(self, stream: FileIO, wanted: Wanted) -> tuple[Digests, int]:
        """The hashes of what has arrived before, and how much that is."""
        digests, here = Digests(wanted.size), 0
        buffer = memoryview(bytearray(BLOCK))
        while read := stream.readinto(buffer):
            digests.update(buffer[:read])
            here += read
            if here > wanted.size:
                return self._drop(stream, wanted), 0
        return digests, here

    def _drop(self, stream: FileIO, wanted: Wanted) -> Digests:
        """Forget what has arrived."""
        stream.truncate(0)
        return self._from_start(stream, wanted)

    def _from_start(self, stream: FileIO, wanted: Wanted) -> Digests:
        stream.seek(0)
        self._count(-self._counted)
        return Digests(wanted.size)

    def _count(self, nbytes: int) -> None:
        self._counted += nbytes
        self._advance(nbytes)

    @contextlib.contextmanager
    def _body(self, place: Answer, here: int) -> Iterator[Answer]:
        """The answer that has the file from a byte on, or all of it."""
        if not here and place.location is None:
            yield place
            return
        url = place.location or place.url
        with contextlib.ExitStack() as stack:
            try:
                body = stack.enter_context(self._client.open(url, timeout=self._timeout, start=here))
            except StatusError as error:
                if error.status != BEYOND:
                    raise
                body = stack.enter_context(self._client.open(url, timeout=self._timeout))
            yield body

    def _check_announced(self, body: Answer, here: int, wanted: Wanted) -> None:
        """Raises StrangeAnswerError for another part than was asked for, BundleError for another length."""
        host = host_of(body.url)
        if body.is_page:
            raise StrangeAnswerError(f"{host} answers with a page for people in the place of {wanted.path}", body.url)
        if body.status == 206:
            part = RANGE.fullmatch(body.response.headers.get("Content-Range", ""))
            if part is None or int(part[1]) != here or part[2] not in ("*", str(wanted.size)):
                raise StrangeAnswerError(f"{host} sends another part of {wanted.path} than was asked for", body.url)
        if body.length is not None and body.length != wanted.size - here:
            raise BundleError(
                f"{wanted.path} of {self._label} has {here + body.length:,} bytes at {host}, the manifest says "
                f"{wanted.size:,}; whoever publishes it has to upload the bundle anew"
            )

    def _write(self, body: Answer, stream: FileIO, digests: Digests, left: int, wanted: Wanted) -> None:
        while left:
            part = memoryview(body.part(min(left, BLOCK)))
            if not part:
                raise NoAnswerError(f"the connection to {host_of(body.url)} broke off", body.url, passes=True)
            left -= len(part)
            digests.update(part)
            self._count(len(part))
            while part:
                part = part[stream.write(part) or 0 :]
        if body.length is None and body.part(1):
            raise BundleError(
                f"{wanted.path} of {self._label} has more bytes at {host_of(body.url)} than the {wanted.size:,} of the "
                "manifest; whoever publishes it has to upload the bundle anew"
            )
