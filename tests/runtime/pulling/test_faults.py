"""Transfers that break and disks that are full: what has arrived is kept, and nothing half-written is ever visible."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from io import FileIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from loopback_hub import Answer, Hub
from neort.errors import BundleError, HubError, StorageError
from neort.files import FileLock
from neort.pulling import store
from patience import PATIENCE
from published import WEIGHTS, facts_of
from pulls import MAIN, NAME, Puller, is_whole, on

SHA256 = facts_of(WEIGHTS)["sha256"]


def ranges(hub: Hub) -> list[str | None]:
    return [each.headers.get("range") for each in hub.requests if each.path.endswith(SHA256)]


def refuse_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Any, target_is_directory: bool = False) -> None:
        raise OSError(errno.EPERM, "a required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)


def partial(puller: Puller) -> Path:
    puller.cached.blobs.mkdir(parents=True, exist_ok=True)
    return puller.cached.partial(SHA256)


# Transfers that break


def test_a_transfer_that_breaks_goes_on_where_it_ended(hub: Hub, puller: Puller) -> None:
    hub.breaks = [len(b"graph"), 300_000, 400_000]  # the graph comes first
    assert is_whole(puller().path)
    assert ranges(hub) == [None, "bytes=300000-", "bytes=700000-"]
    assert puller.moved[-1][0] == puller.moved[-1][1]
    assert puller.waited == []


def test_what_had_arrived_is_kept_for_the_next_pull(hub: Hub, puller: Puller) -> None:
    hub.fault = on("cdn", SHA256, Answer(200, body=WEIGHTS, cut=500_000), Answer(200, body=WEIGHTS, cut=0))
    told = puller.refusal(error=HubError)
    assert "the connection to 127.0.0.1" in told
    assert told.endswith("broke off; the same command goes on where it ended")
    assert puller.waited == [1, 2, 4, 8]
    assert partial(puller).read_bytes() == WEIGHTS[:500_000]
    hub.fault = lambda *_: None
    hub.requests.clear()
    assert is_whole(puller().path)
    assert ranges(hub) == ["bytes=500000-"]


@pytest.mark.parametrize(
    "answer",
    [Answer(200, body=WEIGHTS), Answer(200, body=WEIGHTS, length=None), Answer(416)],
    ids=["the whole", "the whole, without a length", "no such part"],
)
def test_a_server_that_knows_no_parts_sends_all_of_it(answer: Answer, hub: Hub, puller: Puller) -> None:
    partial(puller).write_bytes(WEIGHTS[:1000])
    hub.fault = on("cdn", SHA256, answer, Answer(200, body=WEIGHTS))
    assert is_whole(puller().path)
    assert puller.moved[-1][0] == puller.moved[-1][1]


@pytest.mark.parametrize(
    "before", [b"x" * 1000, b"x" * len(WEIGHTS), WEIGHTS + b"x"], ids=["a part", "as long", "longer"]
)
def test_what_had_arrived_and_does_not_fit_is_fetched_anew(before: bytes, hub: Hub, puller: Puller) -> None:
    partial(puller).write_bytes(before)
    assert is_whole(puller().path)
    assert ranges(hub)[-1] is None


def test_what_had_arrived_whole_is_not_fetched_again(hub: Hub, puller: Puller) -> None:
    partial(puller).write_bytes(WEIGHTS)
    assert is_whole(puller().path)
    assert ranges(hub) == []


def test_a_damaged_file_in_the_cache_is_fetched_again(hub: Hub, puller: Puller) -> None:
    weights = puller().path / "weights.data"
    blob = weights.resolve()
    blob.write_bytes(WEIGHTS[:-1] + b"x")
    hub.requests.clear()
    assert is_whole(puller().path)
    assert weights.resolve() == blob
    assert ranges(hub) == [None]


def test_a_damaged_manifest_in_the_cache_is_placed_anew(hub: Hub, puller: Puller) -> None:
    manifest = puller().path / "manifest.json"
    manifest.resolve().write_bytes(manifest.read_bytes()[:-1] + b"x")
    assert is_whole(puller().path)


@pytest.mark.parametrize("edited", [b"[]", b'{"a": 1}'], ids=["as long", "longer"])
def test_a_file_that_the_hub_has_otherwise_than_the_manifest_stays(edited: bytes, hub: Hub, puller: Puller) -> None:
    hub.repositories[NAME].files["int8/config.json"] = edited
    digests, others = store.Digests(len(edited)), store.Store(puller.cached)
    digests.update(edited)
    others.put(digests.git, edited)
    others.link(digests.git, MAIN, "int8/config.json")  # as another client does
    told = puller.refusal(error=BundleError)
    assert told.startswith("int8/config.json of owner/tiny ")
    assert told.endswith("whoever publishes it has to upload the bundle anew")
    assert (puller.cached.snapshot(MAIN) / "int8" / "config.json").read_bytes() == edited


def test_a_file_that_cannot_be_read_for_now_is_not_taken_for_another(
    hub: Hub, puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> FileIO:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    path = puller().path
    with monkeypatch.context() as patched:
        patched.setattr(store, "open_regular", fail)
        with pytest.raises(StorageError, match=os.strerror(errno.EMFILE)):
            puller()
    assert is_whole(path)


def test_a_file_has_its_name_before_another_pull_may_have_its_blob(
    hub: Hub, puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, taken = store.Store.link, []

    def look_and_link(self: store.Store, blob: str, commit: str, path: str) -> None:
        lock = FileLock(self.cached.locks / f"{blob}.lock")
        taken.append(lock.take())
        lock.close()
        link(self, blob, commit, path)

    monkeypatch.setattr(store.Store, "link", look_and_link)
    assert is_whole(puller().path)
    assert taken == [False] * 6  # four files, the card and the manifest


@pytest.mark.parametrize("links", [True, False])
def test_two_pulls_at_once_fetch_it_once(
    links: bool, hub: Hub, puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:
        refuse_links(monkeypatch)
    going, first = threading.Event(), on("cdn", SHA256, Answer(200, body=WEIGHTS, cut=1000, until=threading.Event()))

    def slow(server: str, path: str, asked: dict[str, str]) -> Answer | None:
        answer = first(server, path, asked)
        if answer is not None and answer.until is not None:
            going.set()
            waiting.wait(PATIENCE)
        return None

    hub.fault = slow
    waiting, other = threading.Event(), Puller(puller.cached)
    other.told = SimpleNamespace(append=lambda said: waiting.set() if "waiting for another" in said else None)  # type: ignore[assignment]
    threads = [threading.Thread(target=puller), threading.Thread(target=lambda: going.wait(PATIENCE) and other())]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert waiting.is_set()
    assert is_whole(puller().path)
    assert ranges(hub) == [None]


# The disk


def test_a_disk_that_becomes_full_keeps_what_arrived(hub: Hub, puller: Puller, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(FileIO):
        def write(self, data: Any) -> int:
            room = 500_000 - self.tell()
            if room <= 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(memoryview(data)[:room])

    with monkeypatch.context() as patched:
        patched.setattr(store, "FileIO", Full)
        told = puller.refusal(error=StorageError)
    assert f"({os.strerror(errno.ENOSPC)}); what has arrived is kept; make room" in told
    assert partial(puller).read_bytes() == WEIGHTS[:500_000]
    assert is_whole(puller().path)
    assert ranges(hub) == [None, "bytes=500000-"]


def test_a_disk_without_room_is_told_before_anything_is_fetched(
    hub: Hub, puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    assert "takes 1,048,596 bytes more, and the disk of the cache" in puller.refusal(error=StorageError)
    assert hub.asked("GET", server="cdn") == []


def test_a_cache_that_cannot_be_written_is_named(hub: Hub, puller: Puller) -> None:
    puller.cached.cache.parent.mkdir()
    puller.cached.cache.write_text("a file")
    assert f"owner/tiny cannot be written to {puller.cached.cache}" in puller.refusal(error=StorageError)


def test_where_there_are_no_links_files_lie_in_the_snapshot(
    hub: Hub, puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_links(monkeypatch)
    path = puller().path
    assert is_whole(path)
    assert not any(file.is_symlink() for file in path.iterdir())
    assert [*puller.cached.blobs.iterdir()] == []
    hub.requests.clear()
    assert puller().fetched == 0
    assert hub.asked("GET", server="cdn") == []
