"""The cache is the one of the hub's own client: what either has fetched, the other finds."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path

import pytest

import neort
from loopback_hub import Hub, Repository
from neort.hub import find_bundle
from patience import PATIENCE
from published import WEIGHTS, bundle_files, facts_of, in_folders
from pulls import MAIN, NAME, Puller

hub_client = pytest.importorskip("huggingface_hub", reason="compares with the hub's own client")

OTHER = "facade" + 34 * "1"


@pytest.fixture(autouse=True)
def plain_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client asks without a token, and shows no bars."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", True)
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()


def snapshot(hub: Hub, puller: Puller, **options: object) -> Path:
    """What the client fetches, or finds, of the repository."""
    return Path(
        hub_client.snapshot_download(
            NAME, endpoint=hub.endpoint, cache_dir=puller.cached.cache, max_workers=1, **options
        )
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_hub_on_loopback_is_one_to_its_own_client(hub: Hub, puller: Puller) -> None:
    assert contents(snapshot(hub, puller)) == hub.repositories[NAME].files


def test_the_client_finds_what_was_pulled(hub: Hub, puller: Puller) -> None:
    pulled = puller()
    cache = puller.cached.cache
    for name in bundle_files():
        found = hub_client.try_to_load_from_cache(NAME, f"int8/{name}", cache_dir=cache)
        assert Path(str(found)).read_bytes() == (pulled.path / name).read_bytes()
    assert snapshot(hub, puller, local_files_only=True) == pulled.path.parent
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scanned = hub_client.scan_cache_dir(cache)
    assert scanned.warnings == []
    (repository,) = scanned.repos
    (revision,) = repository.revisions
    assert (repository.repo_id, revision.commit_hash, revision.refs) == (NAME, MAIN, {"main"})
    assert {file.file_path.relative_to(pulled.path.parent).as_posix() for file in revision.files} == {
        "README.md",
        *(f"int8/{name}" for name in bundle_files()),
    }
    hub.requests.clear()
    snapshot(hub, puller)
    assert hub.asked("GET", server="cdn") == []  # .gitattributes is all that it lacks


def test_what_the_client_fetched_needs_no_transfer(hub: Hub, puller: Puller) -> None:
    path = snapshot(hub, puller) / "int8"
    assert find_bundle(NAME) == path
    assert neort.Bundle(path, check_weights=True).quantization == "int8"
    hub.requests.clear()
    assert (puller().path, puller().fetched) == (path, 0)
    assert hub.asked("GET", server="cdn") == []


def test_both_share_the_contents_of_other_commits(hub: Hub, puller: Puller) -> None:
    snapshot(hub, puller)
    hub.repositories[NAME] = Repository(in_folders(int8=bundle_files(config_json=b'{"a": 1}')), {"main": OTHER})
    hub.requests.clear()
    assert puller().commit == OTHER
    assert hub.asked("GET", server="cdn") == []
    hub.repositories[NAME] = Repository(in_folders(int8=bundle_files(config_json=b'{"a": 2}')), {"main": "f" * 40})
    snapshot(hub, puller)
    assert hub.asked("GET", server="cdn") == []
    assert find_bundle(NAME).parent.name == "f" * 40


def test_a_client_that_fetches_the_same_file_is_waited_for(hub: Hub, puller: Puller) -> None:
    filelock = pytest.importorskip("filelock", reason="takes the client's lock")
    puller.cached.locks.mkdir(parents=True)
    lock = filelock.FileLock(puller.cached.locks / f"{facts_of(WEIGHTS)['sha256']}.lock")
    waiting = threading.Event()

    class Told(list[str]):
        def append(self, said: str) -> None:
            if said.startswith("waiting for another process"):
                waiting.set()

    puller.told = Told()
    with lock:
        thread = threading.Thread(target=puller)
        thread.start()
        assert waiting.wait(PATIENCE)
        assert not (puller.cached.snapshot(MAIN) / "int8" / "weights.data").exists()
    thread.join()
    assert find_bundle(NAME) == puller.cached.snapshot(MAIN) / "int8"
