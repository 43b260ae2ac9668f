"""Checkpoints on the hub, against one that the test starts on loopback, and against a cache laid by hand."""

from __future__ import annotations

import errno
import inspect
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import constants, file_download

from loopback_hub import Hub, Repository, running_hub
from neort.errors import NeortError, StorageError
from neort_export.checkpoint.hub import Located, Parts, locate
from neort_export.cli import main

MAIN, TAGGED = "c0ffee" + 34 * "0", "facade" + 34 * "1"
LARGE = bytes(range(256)) * 96 * 1024  # 24 MiB: the client writes 10 MiB at a time
SMALL = {
    "config.json": b'{"model_type": "gpt_neo"}',
    "generation_config.json": b"{}",
    "tokenizer.json": b'{"model": {}}',
    "README.md": b"# A model\n",
}
OTHERS = {
    "pytorch_model.bin": b"a pickle",
    "tf_model.h5": b"tensorflow",
    "flax_model.msgpack": b"flax",
    "rust_model.ot": b"rust",
    "model.gguf": b"gguf",
    "onnx/model.onnx": b"onnx",
    "runs/events.json": b"{}",
    "training_args.json": b"{}",
}
NAME = "owner/tiny"
KEEPS_BROKEN_TRANSFERS = "uuid" not in inspect.getsource(file_download._download_to_tmp_and_move)


class Told:
    """Progress that remembers."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int]] = []
        self.advanced: list[int] = []

    def stage(self, name: str, nbytes: int = 0) -> None:
        self.stages.append((name, nbytes))
        self.advanced.append(0)

    def advance(self, nbytes: int) -> None:
        self.advanced[-1] += nbytes


@pytest.fixture(scope="module")
def server() -> Iterator[Hub]:
    with running_hub() as hub:
        yield hub


def point_client(monkeypatch: pytest.MonkeyPatch, endpoint: str, cache: Path) -> None:
    """What HF_ENDPOINT, HF_HOME and no token are to a client that is not imported yet."""
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def hub(server: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    """A hub with one repository, and a client with an empty cache in ``tmp_path``."""
    server.repositories = {NAME: Repository({**SMALL, **OTHERS, "model.safetensors": b"weights"})}
    server.requests, server.breaks = [], []
    point_client(monkeypatch, server.endpoint, tmp_path / "hub")
    return server


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def refusal(source: str = NAME, revision: str | None = None, parts: Parts = Parts.MODEL) -> str:
    with pytest.raises(NeortError) as caught:
        locate(source, revision, parts=parts)
    message = str(caught.value)
    assert "\n" not in message
    return message


# What is fetched


def test_only_the_files_that_an_export_reads_are_fetched(hub: Hub) -> None:
    found = locate(NAME)
    assert found.commit == MAIN
    assert names(found.path) == {*SMALL, "model.safetensors"}
    assert (found.path / "model.safetensors").read_bytes() == b"weights"
    fetched = {path.rpartition("/")[2] for path in hub.asked("GET") if "resolve" in path}
    assert fetched == set(SMALL)
    assert len(hub.asked("GET", server="cdn")) == 1


def test_pickles_are_fetched_where_there_are_no_safetensors(hub: Hub) -> None:
    hub.repositories[NAME] = Repository({**SMALL, **OTHERS})
    assert names(locate(NAME).path) == {*SMALL, "pytorch_model.bin"}


def test_the_shards_that_the_index_names_are_fetched(hub: Hub) -> None:
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "../../x", "d": 3}}
    shards = {"model-1.safetensors": b"one", "model-2.safetensors": b"two", "model-3.safetensors": b"old"}
    files = {**SMALL, **OTHERS, **shards, "model.safetensors.index.json": json.dumps(index).encode()}
    hub.repositories[NAME] = Repository(files)
    wanted = {"model-1.safetensors", "model-2.safetensors", "model.safetensors.index.json"}
    assert names(locate(NAME).path) == {*SMALL, *wanted}


def test_a_tokenizer_comes_without_weights_and_an_adapter_with_its_own(hub: Hub) -> None:
    adapter = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"factors", "adapter_model.bin": b"old"}
    hub.repositories["owner/lora"] = Repository({**adapter, "optimizer.bin": b"state"})
    assert names(locate(NAME, parts=Parts.TOKENIZER).path) == {"config.json", "tokenizer.json"}
    found = locate("owner/lora", parts=Parts.ADAPTER)
    assert names(found.path) == {"adapter_config.json", "adapter_model.safetensors"}


@pytest.mark.parametrize(
    ("source", "revision"), [(f"{NAME}@v1", None), (NAME, "v1"), (f"{NAME}@v1", "v1"), (f"{NAME}@{TAGGED}", None)]
)
def test_a_revision_stands_after_an_at_sign_or_apart(hub: Hub, source: str, revision: str | None) -> None:
    hub.repositories[NAME].revisions["v1"] = TAGGED
    found = locate(source, revision)
    assert found.commit == TAGGED == found.path.name
    assert found.name is not None
    assert found.name.repository == NAME


def test_branches_of_pull_requests_are_revisions(hub: Hub) -> None:
    hub.repositories[NAME].revisions["refs/pr/1"] = TAGGED
    assert locate(f"{NAME}@refs/pr/1").commit == TAGGED


def test_a_repository_that_was_renamed_is_found_under_its_old_name(hub: Hub) -> None:
    hub.repositories["owner/Tiny"] = Repository({}, moved_to=NAME)
    found = locate("owner/Tiny")
    assert found.commit == MAIN
    assert names(found.path) == {*SMALL, "model.safetensors"}


def test_size_is_told_before_the_first_file_is_fetched_and_progress_adds_up_to_it(hub: Hub) -> None:
    hub.repositories[NAME].files["model.safetensors"] = LARGE
    told = Told()
    locate(f"{NAME}@main", progress=told)
    size = len(LARGE) + sum(map(len, SMALL.values()))
    assert told.stages[0] == (f"fetching {NAME}@main: 5 files, {size / 1e6:,.1f} MB", size)
    assert told.advanced[0] == size
    assert told.stages[1][0].startswith("checking")


def test_what_is_cached_costs_one_question_and_no_transfer(hub: Hub) -> None:
    first, told = locate(NAME), Told()
    hub.requests.clear()
    assert locate(NAME, progress=told) == first
    assert [each.path for each in hub.requests] == [f"/api/models/{NAME}"]
    assert told.stages == []


def test_a_branch_that_has_moved_is_fetched_anew_and_only_what_changed(hub: Hub) -> None:
    locate(NAME)
    hub.requests.clear()
    hub.repositories[NAME].revisions["main"] = TAGGED
    hub.repositories[NAME].files["config.json"] = b'{"model_type": "gpt2"}'
    found = locate(NAME)
    assert found.commit == TAGGED
    assert (found.path / "config.json").read_bytes() == b'{"model_type": "gpt2"}'
    assert (found.path / "model.safetensors").read_bytes() == b"weights"
    assert hub.asked("GET", server="cdn") == []


# What is sent


def test_the_client_says_what_it_is_and_nothing_else(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    locate(NAME)
    version = huggingface_hub.__version__
    assert {each.headers["user-agent"] for each in hub.requests} == {f"neort/0.1.0; hf_hub/{version}"}
    known = {"accept", "accept-encoding", "connection", "host", "user-agent", "authorization"}
    of_each_request = {"x-amzn-trace-id", "x-request-id", "x-hf-download-counter"}  # random numbers; "1"
    assert {name for each in hub.requests for name in each.headers} <= known | of_each_request


def test_the_token_is_for_the_hub_and_not_for_where_it_redirects_to(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repositories[NAME].token = "secret"
    monkeypatch.setenv("HF_TOKEN", "secret")
    locate(NAME)
    assert {each.headers.get("authorization") for each in hub.requests if each.server == "hub"} == {"Bearer secret"}
    assert {each.headers.get("authorization") for each in hub.requests if each.server == "cdn"} == {None}


# Transfers that break


def test_a_transfer_that_breaks_goes_on_where_it_ended(hub: Hub) -> None:
    hub.repositories[NAME].files["model.safetensors"] = LARGE
    hub.breaks = [15 << 20]
    assert (locate(NAME).path / "model.safetensors").read_bytes() == LARGE
    first, second = (each for each in hub.requests if each.server == "cdn")
    assert "range" not in first.headers
    assert second.headers["range"] == f"bytes={10 << 20}-"
    assert second.status == 206


@pytest.mark.skipif(not KEEPS_BROKEN_TRANSFERS, reason="this release of huggingface_hub begins broken transfers anew")
def test_a_transfer_that_broke_is_resumed_by_the_next_export(hub: Hub) -> None:
    hub.repositories[NAME].files["model.safetensors"] = LARGE
    hub.breaks = [15 << 20, 0]
    assert refusal() == f"the transfer of {NAME} from {hub.endpoint} broke off; run the command again"
    assert [path for path in (Path(constants.HF_HUB_CACHE)).rglob("model.safetensors") if path.exists()] == []
    told = Told()
    assert (locate(NAME, progress=told).path / "model.safetensors").read_bytes() == LARGE
    assert f"{(10 << 20) / 1e6:,.1f} MB of them are here already" in told.stages[0][0]
    assert [each.headers.get("range") for each in hub.requests if each.server == "cdn"][-1] == f"bytes={10 << 20}-"


def test_what_had_arrived_and_does_not_fit_is_fetched_anew(hub: Hub) -> None:
    """It is longer than the file: the server answers that there is no such range."""
    blobs = Path(constants.HF_HUB_CACHE) / "models--owner--tiny" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{sha256(b'weights').hexdigest()}.incomplete").write_bytes(b"of another file")
    assert (locate(NAME).path / "model.safetensors").read_bytes() == b"weights"


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_file_that_is_not_what_the_hub_lists_is_removed_and_fetched_again(hub: Hub, file: str) -> None:
    hub.repositories[NAME].listed_hashes[file] = ("0" * 64) if file.endswith("tensors") else ("0" * 40)
    message = refusal()
    assert message.startswith(f"{file} of {NAME} arrived with the hash")
    assert "run the command again" in message
    hub.repositories[NAME].listed_hashes.clear()
    assert (locate(NAME).path / file).read_bytes() == hub.repositories[NAME].files[file]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_nothing_half_written_is_taken_for_whole(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """The error comes when 10 MiB have been written."""
    hub.repositories[NAME].files["model.safetensors"] = LARGE

    def full(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(file_download, "_chmod_and_move", full)
        with pytest.raises((KeyboardInterrupt, StorageError)) as caught:
            locate(NAME)
    if isinstance(error, OSError):
        assert f"the disk of the cache {constants.HF_HUB_CACHE} became full" in str(caught.value)
        assert "HF_HOME" in str(caught.value)
    assert (locate(NAME).path / "model.safetensors").read_bytes() == LARGE


def test_a_disk_that_cannot_hold_it_is_told_before_anything_is_fetched(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    size = len(b"weights") + sum(map(len, SMALL.values()))
    message = refusal()
    assert f"takes {size:,} bytes and the disk of the cache {tmp_path / 'hub'} has 10 bytes free" in message
    assert "HF_HOME" in message
    assert [path for path in hub.asked("GET") if "resolve" in path] == []


def test_a_cache_that_cannot_be_written_is_named(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "hub").write_text("a file is in its place")
    message = refusal()
    assert f"the cache {tmp_path / 'hub'} cannot be written" in message
    assert "set HF_HOME to another folder" in message


# What the hub refuses


def fails(status: int, **headers: str) -> Callable[[Repository], None]:
    def change(repository: Repository) -> None:
        repository.fails = (status, {name.replace("_", "-"): value for name, value in headers.items()})

    return change


REFUSED: dict[str, tuple[Callable[[Repository], None], str | None, list[str]]] = {
    "private, no token": (lambda r: setattr(r, "token", "x"), None, ["private", "hf auth login", "HF_TOKEN", "name"]),
    "private, another token": (lambda r: setattr(r, "token", "x"), "y", ["to the token in use", "correct the name"]),
    "a token that is none": (lambda _: None, "bad", ["does not accept the token in use (HTTP 401)", "hf auth login"]),
    "gated, no token": (lambda r: setattr(r, "gated", True), None, [f"/{NAME}", "accept its licence", "hf auth login"]),
    "gated, not accepted": (lambda r: setattr(r, "gated", True), "y", ["accept its licence", "HF_TOKEN"]),
    "a data set": (lambda r: setattr(r, "is_dataset", True), None, ["is a data set on the hub"]),
    "disabled": (fails(403, X_Error_Message="Access to this resource is disabled."), None, ["disabled"]),
    "forbidden": (fails(403, X_Error_Message="no \x1b[31mscope"), "y", ["HTTP 403", "read access", r"\x1b[31mscope"]),
    "too many requests": (fails(429, Retry_After="120"), None, ["HTTP 429", "in 120 seconds", "HF_TOKEN"]),
    "down": (fails(503), None, ["HTTP 503", "try again later", f"hf download {NAME} --local-dir tiny"]),
    "a teapot": (fails(418), None, ["HTTP 418"]),
    "a login page": (fails(200), None, ["something else than a hub does", "HF_ENDPOINT"]),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_the_hub_refuses_is_told_in_one_sentence(hub: Hub, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    change, token, words = REFUSED[kind]
    change(hub.repositories[NAME])
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    message = refusal()
    assert NAME in message
    for each in words:
        assert each in message


def test_a_missing_repository_may_be_misspelt(hub: Hub) -> None:
    message = refusal("owner/tinny")
    assert "the hub shows no model of that name; correct the name, or, if it is private" in message


def test_a_missing_revision_is_named_with_where_to_look(hub: Hub) -> None:
    message = refusal(f"{NAME}@v2")
    assert f"{NAME} is on the hub, but has no branch, tag or commit 'v2'" in message
    assert f"{hub.endpoint}/{NAME}/tree/main" in message


CONTENTS: dict[str, tuple[dict[str, bytes], list[str]]] = {
    "gguf": (
        {"model.Q4.gguf": b""},
        ["only GGUF files", "safetensors or pytorch_model.bin", "'owner/original' by its card"],
    ),
    "tensorflow and flax": ({"tf_model.h5": b"", "flax_model.msgpack": b""}, ["TensorFlow's weights and Flax's"]),
    "nothing": ({}, ["none at all"]),
    "an adapter": (
        {"adapter_config.json": b'{"base_model_name_or_path": "owner/base"}', "adapter_model.safetensors": b""},
        [f"neort-export owner/base --adapter {NAME}"],
    ),
    "folders": ({"checkpoint-5/model.safetensors": b""}, ["weights only in folders ('checkpoint-5')", "hf download"]),
}


@pytest.mark.parametrize("kind", CONTENTS)
def test_a_repository_without_weights_that_are_read_is_told_by_what_it_has(hub: Hub, kind: str) -> None:
    files, words = CONTENTS[kind]
    hub.repositories[NAME] = Repository({**SMALL, **files}, card={"base_model": "owner/original"})
    message = refusal()
    assert NAME in message
    for each in words:
        assert each in message


# Without a network


def test_a_hub_that_cannot_be_reached_is_told_with_the_command_to_copy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    point_client(monkeypatch, "http://127.0.0.1:9", tmp_path / "hub")
    message = refusal(f"{NAME}@v1")
    assert "the hub (http://127.0.0.1:9) cannot be reached" in message
    assert f"the cache {tmp_path / 'hub'} does not hold it" in message
    assert f"`hf download {NAME} --revision v1 --local-dir tiny`" in message


def test_a_proxy_that_cannot_be_reached_is_named(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    point_client(monkeypatch, "http://hub.invalid", Path(constants.HF_HUB_CACHE))
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    assert "the hub (http://hub.invalid) cannot be reached through the proxy (correct HTTPS_PROXY" in refusal()


def test_a_hub_that_does_not_answer_in_time_is_told_with_the_limit(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repositories[NAME].silent = True
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.05)
    assert "did not answer in time (0.05 and 10 seconds; HF_HUB_ETAG_TIMEOUT" in refusal()


def test_what_is_cached_serves_while_the_hub_is_down(hub: Hub) -> None:
    first, told = locate(NAME), Told()
    hub.repositories[NAME].fails = (503, {})
    assert locate(NAME, progress=told) == first
    assert told.stages == [(f"taking {NAME} from the cache, commit {MAIN}, without asking the hub", 0)]


def test_a_snapshot_in_part_is_told_by_what_it_lacks(hub: Hub) -> None:
    found = locate(NAME)
    (found.path / "model.safetensors").unlink()
    hub.repositories[NAME].fails = (500, {})
    assert "holds only a part of it (without the weights)" in refusal()


# Whole commands


def environment(tmp_path: Path, **variables: str) -> dict[str, str]:
    """That of a process, without what would lead the hub's client elsewhere."""
    others = ("HF_", "HUGGING", "TRANSFORMERS")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    return kept | {"PYTHONPATH": os.pathsep.join(sys.path), "HF_HOME": str(tmp_path / "home"), **variables}


def test_an_export_of_a_name_at_a_tag_is_one_of_its_commit(
    hub: Hub, exporter: Callable[[str, object], None], checkpoint: Path, tmp_path: Path
) -> None:
    files = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    hub.repositories[NAME] = Repository(files | OTHERS, revisions={"main": MAIN, "v1": TAGGED})
    bundle = tmp_path / "bundle"
    assert main([f"{NAME}@v1", "-o", str(bundle), "--quantization", "fp32", "--no-verify"]) == 0
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["source"] == {"name": NAME, "revision": TAGGED}
    assert all(NAME in each.path for each in hub.requests)  # nothing else is asked for
    fetched = {path.rpartition("/")[2] for path in hub.asked("GET") if "resolve-cache" in path}
    assert fetched == set(files) - {"model.safetensors"}


def test_the_command_heeds_the_environment_and_tells_size_on_a_line(hub: Hub, tmp_path: Path) -> None:
    """HF_ENDPOINT, HF_TOKEN and HF_HOME, in a process of its own; what it fetches is no model."""
    hub.repositories[NAME].token = "secret"
    hub.repositories[NAME].files["model.safetensors"] = LARGE
    hub.breaks = [15 << 20]
    variables = environment(tmp_path, HF_ENDPOINT=hub.endpoint, HF_TOKEN="secret")
    command = [sys.executable, "-m", "neort_export", NAME, "-o", "bundle"]
    done = subprocess.run(command, env=variables, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    size = len(LARGE) + sum(map(len, SMALL.values()))
    fetching, checking, error = done.stderr.splitlines()
    assert fetching == f"fetching {NAME}: 5 files, {size / 1e6:,.1f} MB ..."
    assert checking == "checking what has arrived ..."
    assert error.startswith(f"neort-export: {tmp_path / 'home' / 'hub' / 'models--owner--tiny' / 'snapshots' / MAIN}")
    assert all(NAME in each.path for each in hub.requests)  # nothing else is asked for, and nobody else


def test_offline_a_cache_laid_by_hand_serves_and_what_it_lacks_is_refused(tmp_path: Path) -> None:
    """By the hub client's own switch; names without a network are refused with the command to copy."""
    repository = tmp_path / "home" / "hub" / "models--owner--tiny"
    snapshot = repository / "snapshots" / MAIN
    for folder in (snapshot, repository / "blobs", repository / "refs"):
        folder.mkdir(parents=True)
    (repository / "refs" / "main").write_text(MAIN)
    for number, (name, content) in enumerate({**SMALL, "model.safetensors": b"weights"}.items()):
        (repository / "blobs" / str(number)).write_bytes(content)
        (snapshot / name).symlink_to(Path("../../blobs") / str(number))
    code = """
from neort_export import CheckpointError
from neort_export.checkpoint.hub import locate
print(locate("owner/tiny").path)
print(locate("owner/tiny@" + "c0ffee" + 34 * "0").commit)
for name in ("owner/tiny@v1", "EleutherAI/gpt-neo-125m"):
    try:
        locate(name)
    except CheckpointError as error:
        print(error)
"""
    variables = environment(tmp_path, HF_HUB_OFFLINE="1", HF_ENDPOINT="http://127.0.0.1:9")
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True)
    path, commit, revision, name = done.stdout.splitlines()
    assert Path(path) == snapshot
    assert commit == MAIN
    offline = f"HF_HUB_OFFLINE forbids to ask the hub, and the cache {tmp_path / 'home' / 'hub'} does not hold it"
    assert revision.startswith(f"owner/tiny@v1 is no folder here, {offline}")
    assert name.startswith(f"EleutherAI/gpt-neo-125m is no folder here, {offline}; on a machine with a network run")
    assert "`hf download EleutherAI/gpt-neo-125m --local-dir gpt-neo-125m`, copy the folder gpt-neo-125m here" in name


# Names


NO_NAMES = {
    f"{NAME}@": "ends after the @",
    f"{NAME}@a/../b": "no name of a branch",
    f"{NAME}@-x": "no name of a branch",
    f"{NAME}@a b": "no name of a branch",
    f"{NAME}@a\x1b[31m": "no name of a branch",
    "owner/na me": "no name that the hub can have",
    "own--er/name": "no name that the hub can have",
    f"https://huggingface.co/{NAME}": "give the name alone, OWNER/NAME",
    "owner/name/more@v1": "is not a folder",
    "./name@v1": "is not a folder",
}


@pytest.mark.parametrize("source", NO_NAMES)
def test_what_is_no_name_is_refused_without_asking_the_hub(hub: Hub, source: str) -> None:
    assert NO_NAMES[source] in refusal(source)
    assert hub.requests == []


def test_two_revisions_are_refused(hub: Hub) -> None:
    assert f"'{NAME}@v1' has the revision 'v1', and --revision is 'v2'; give one" in refusal(f"{NAME}@v1", "v2")


def test_a_folder_comes_first_and_has_no_revision(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (NAME, "model@v1"):
        (tmp_path / folder).mkdir(parents=True)
        assert locate(folder) == Located((tmp_path / folder).resolve())
        assert "is a folder, which has no revision 'v1'; leave out --revision" in refusal(folder, "v1")
    assert f"{NAME} is a folder here, and folders have no revision 'v1'; leave out @v1" in refusal(f"{NAME}@v1")
    assert hub.requests == []
