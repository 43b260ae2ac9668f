"""What a pull brings, from where, and what it asks for."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

import neort
from loopback_hub import Answer, Hub, Repository
from neort.cli import main
from neort.cli.commands import serve_models
from neort.errors import ConfigError, HubError
from neort.hub import find_bundle
from published import bundle_files, edited, in_folders
from pulls import MAIN, NAME, Puller

OTHER = "facade" + 34 * "1"


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_bundle_comes_with_its_card_and_its_name_finds_it(hub: Hub, puller: Puller) -> None:
    pulled = puller()
    assert pulled.path == puller.cached.snapshot(MAIN) / "int8" == find_bundle(NAME)
    assert (pulled.commit, str(pulled.name)) == (MAIN, NAME)
    files = bundle_files()
    assert {name: (pulled.path / name).read_bytes() for name in names(pulled.path)} == files
    assert names(puller.cached.snapshot(MAIN)) == {"README.md", *(f"int8/{name}" for name in files)}
    assert puller.cached.ref(None).read_text() == MAIN
    assert neort.Bundle(pulled.path, check_weights=True).quantization == "int8"
    assert not [*puller.cached.blobs.glob("*.incomplete")]


def test_size_is_told_first_and_progress_ends_at_it(hub: Hub, puller: Puller) -> None:
    size = sum(len(content) for name, content in bundle_files().items() if name != "manifest.json")
    assert puller().fetched == size
    assert puller.told == [f"{NAME} is commit {MAIN[:12]}: int8, 1.0 MB in 4 files"]
    assert puller.moved[-1] == (size, size)
    assert sorted(puller.moved) == puller.moved


def test_what_is_there_costs_three_questions_and_no_transfer(hub: Hub, puller: Puller) -> None:
    puller()
    hub.requests.clear()
    assert puller().fetched == 0
    assert hub.asked("GET", server="cdn") == []
    questions = {path.partition("/resolve/")[2] or path for path in hub.asked("GET") if "resolve-cache" not in path}
    assert questions == {f"/api/models/{NAME}/revision/main", f"{MAIN}/int8/manifest.json", f"{MAIN}/README.md"}
    assert puller.told[-1].endswith("1.0 MB in 4 files, 4 of them are here")


def test_a_branch_that_has_moved_brings_only_what_changed(hub: Hub, puller: Puller) -> None:
    old = puller().path
    files = in_folders(int8=bundle_files(tokenizer_json=b'{"other": 1}'))
    hub.repositories[NAME] = Repository(files, {"main": OTHER})
    hub.requests.clear()
    new = puller()
    assert new.path == puller.cached.snapshot(OTHER) / "int8" == find_bundle(NAME)
    assert hub.asked("GET", server="cdn") == []  # the weights are the same
    assert (new.path / "tokenizer.json").read_bytes() == b'{"other": 1}'
    assert neort.Bundle(old, check_weights=True).path == old


@pytest.mark.parametrize("revision", ["v1", "refs/pr/1", OTHER])
def test_a_tag_a_pull_request_and_a_commit_are_revisions(revision: str, hub: Hub, puller: Puller) -> None:
    hub.repositories[NAME].revisions["v1" if revision == OTHER else revision] = OTHER
    pulled = puller(f"{NAME}@{revision}")
    assert pulled.commit == OTHER
    assert find_bundle(f"{NAME}@{revision}") == pulled.path
    assert [*puller.cached.revisions()] == ([] if revision == OTHER else [revision])


def test_of_several_formats_the_named_one_comes_or_int8(hub: Hub, puller: Puller) -> None:
    hub.repositories[NAME] = Repository(
        in_folders(int4=bundle_files("int4"), int8=bundle_files(), fp32=bundle_files("fp32"))
    )
    assert puller().path.name == "int8"
    assert puller.told[-1] == "it comes as fp32, int4, too: --format names one"
    assert str(puller().name) == NAME
    pulled = puller(format="int4")
    assert (pulled.path.name, str(pulled.name)) == ("int4", f"{NAME}/int4")
    assert find_bundle(f"{NAME}/int4") == puller(f"{NAME}/int4").path
    assert str(puller().name) == f"{NAME}/int8"  # since there are two now
    assert "has fp32, int4, int8 and no 'int2'; choose one by --format" in puller.refusal(format="int2")


def test_without_int8_the_format_of_several_must_be_named(hub: Hub, puller: Puller) -> None:
    hub.repositories[NAME] = Repository(in_folders(int4=bundle_files("int4"), fp32=bundle_files("fp32")))
    assert puller.refusal() == "owner/tiny has fp32, int4; choose one by --format"


def test_a_repository_may_be_a_bundle_itself(hub: Hub, puller: Puller) -> None:
    hub.repositories[NAME] = Repository(bundle_files())
    assert "what it has as int4 is a bundle in the format 'int8'" in puller.refusal(format="int4")
    assert "has no bundle in int2" in puller.refusal(format="int2")
    assert puller(format="int8").path == puller().path == puller.cached.snapshot(MAIN) == find_bundle(NAME)


def test_a_folder_that_holds_another_format_than_its_name_says_is_refused(hub: Hub, puller: Puller) -> None:
    hub.repositories[NAME] = Repository(in_folders(int4=bundle_files("int8")))
    assert "what it has as int4 is a bundle in the format 'int8'" in puller.refusal()


def test_a_checkpoint_is_told_with_the_command_that_makes_a_bundle(hub: Hub, puller: Puller) -> None:
    hub.repositories[NAME] = Repository({"config.json": b"{}", "model.safetensors": b"weights"})
    assert puller.refusal().endswith("is a checkpoint, no bundle; make one of it: neort-export owner/tiny -o BUNDLE")
    hub.repositories[NAME] = Repository({"a/b/manifest.json": b"{}", "README.md": b""})
    assert "has no bundle, at its root or in a folder below it" in puller.refusal()


def test_a_renamed_repository_is_found_under_its_old_name(hub: Hub, puller: Puller) -> None:
    hub.repositories["owner/new"] = hub.repositories[NAME]
    hub.repositories[NAME] = Repository({}, moved_to="owner/new")
    assert neort.Bundle(puller().path).quantization == "int8"


# Tokens


def tokens(hub: Hub, server: str) -> set[str | None]:
    return {each.headers.get("authorization") for each in hub.requests if each.server == server}


@pytest.mark.parametrize("place", ["HF_TOKEN", "file", "path"])
def test_the_token_goes_to_the_hub_and_nowhere_else(
    place: str, hub: Hub, puller: Puller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories[NAME].token = "hf_good"
    assert "log in with `hf auth login`, or set HF_TOKEN" in puller.refusal(error=HubError)
    if place == "HF_TOKEN":
        monkeypatch.setenv("HF_TOKEN", " hf_good\n")
    else:
        file = tmp_path / "home" / "token" if place == "file" else tmp_path / "mine"
        file.parent.mkdir(exist_ok=True)
        file.write_text("hf_good\n")
        monkeypatch.setenv("HF_TOKEN_PATH" if place == "path" else "UNUSED", str(file))
    hub.requests.clear()
    puller()
    assert tokens(hub, "hub") == {"Bearer hf_good"}
    assert tokens(hub, "cdn") == {None}
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
    assert "log in" in puller.refusal()


def test_a_folder_s_server_gets_no_token(hub: Hub, puller: Puller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    hub.pages = {f"/a/{name}": content for name, content in bundle_files().items()}
    puller(f"{hub.web}/a")
    assert tokens(hub, "web") == {None}


def test_what_can_be_no_token_is_told_and_not_sent(hub: Hub, puller: Puller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_good\nHost: elsewhere")
    assert puller.refusal(error=ConfigError).startswith("HF_TOKEN holds what can be no token")
    assert hub.requests == []


def test_the_client_says_what_it_is_and_nothing_else(hub: Hub, puller: Puller) -> None:
    puller()
    assert {each.headers["user-agent"] for each in hub.requests} == {f"neort/{neort.__version__}"}
    known = {"host", "user-agent", "accept-encoding", "connection", "range"}
    assert {name for each in hub.requests for name in each.headers} <= known


# Folders of web servers


def test_a_folder_s_address_is_a_name_and_its_manifest_the_revision(hub: Hub, puller: Puller, tmp_path: Path) -> None:
    address = f"{hub.web}/models/tiny"
    hub.pages = {f"/models/tiny/int8/{name}": content for name, content in bundle_files().items()}
    assert f"{address} hands out no manifest.json (HTTP 404)" in puller.refusal(address)
    pulled = puller(address, "int8")
    assert find_bundle(f"{address}/int8") == pulled.path == puller(f"{address}/int8/manifest.json").path
    assert pulled.path.is_relative_to(tmp_path / "own")
    assert neort.Bundle(pulled.path, check_weights=True).quantization == "int8"
    old = hub.requests.copy()
    files = bundle_files(tokenizer_json=b'{"other": 1}')
    hub.pages = {f"/models/tiny/int8/{name}": content for name, content in files.items()}
    new = puller(address, "int8")
    assert find_bundle(f"{address}/int8") == new.path != pulled.path
    asked = [each.path.rpartition("/")[2] for each in hub.requests[len(old) :]]
    assert asked == ["manifest.json", "tokenizer.json"]
    hub.pages["/models/tiny/int8/manifest.json"] = bundle_files("int4")["manifest.json"]
    with pytest.raises(neort.BundleError, match="what it has as int8 is a bundle in the format 'int4'"):
        puller(address, "int8")


@pytest.mark.parametrize("tag", ["5" * 40, "5" * 64], ids=["as git's hashes", "as sha256"])
def test_what_a_folder_s_server_calls_a_file_s_state_is_no_hash(tag: str, hub: Hub, puller: Puller) -> None:
    pages = {f"/a/{name}": content for name, content in bundle_files().items()}
    hub.fault = lambda server, path, asked: Answer(200, {"ETag": f'"{tag}"'}, pages[path])
    assert neort.Bundle(puller(f"{hub.web}/a").path, check_weights=True).quantization == "int8"


def test_http_to_another_machine_is_no_address(puller: Puller) -> None:
    assert "give an https address" in puller.refusal("http://example.org/tiny", error=ConfigError)


# Without a connection


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_the_cache_serves_and_nobody_is_asked(
    variable: str, hub: Hub, puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "yes")
    assert puller.refusal().startswith("HF_HUB_OFFLINE forbids to ask for owner/tiny, and owner/tiny is no folder here")
    monkeypatch.delenv(variable)
    path = puller().path
    hub.requests.clear()
    monkeypatch.setenv(variable, "1")
    assert puller().path == path
    assert puller.told[-1].startswith("HF_HUB_OFFLINE is set, so nobody was asked")
    assert hub.requests == []


def test_a_hub_that_is_not_there_is_told_with_what_serves_meanwhile(
    hub: Hub, puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert (
        puller.refusal(error=HubError)
        == "owner/tiny was not pulled: 127.0.0.1:9 cannot be reached (it refuses connections)"
    )
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    puller()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert puller.refusal().endswith("(what was pulled before is still there: --model owner/tiny takes it)")


# The command


def test_the_command_prints_the_folder_and_every_command_takes_the_name(
    hub: Hub, puller: Puller, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pull", NAME]) == 0
    printed = capsys.readouterr()
    path = puller.cached.snapshot(MAIN) / "int8"
    assert printed.out == f"{path}\n"
    assert printed.err.splitlines()[-1] == "neort pull: --model owner/tiny takes it"
    named, unnamed = serve_models.Named("x", str(path)), serve_models.Named(None, NAME)
    assert serve_models.bundles_of(Namespace(bundles=[unnamed], more=[named])) == {NAME: path, "x": path}
    assert main(["info", "--model", NAME, "--json"]) == 0
    assert '"int8"' in capsys.readouterr().out
    assert main(["pull", "owner/none"]) == 1
    assert capsys.readouterr().err.startswith("neort: 127.0.0.1")
    with pytest.raises(SystemExit, match="2"):
        main(["pull", NAME, "--revision", "v1"])
    assert "NAME@REVISION names a branch" in capsys.readouterr().err


def test_a_model_that_was_pulled_generates_as_the_original(hub: Hub, puller: Puller, model: neort.Model) -> None:
    files = {path.name: path.read_bytes() for path in model.bundle.path.iterdir()}
    hub.repositories[NAME] = Repository(in_folders(int8=files))
    puller()
    expected = model.generate("Once upon a time", max_new_tokens=4).token_ids
    assert neort.load(NAME, num_threads=2).generate("Once upon a time", max_new_tokens=4).token_ids == expected
    with pytest.raises(neort.BundleError, match="owner/other is no folder here"):
        neort.load(NAME, draft="owner/other")


def test_a_manifest_of_a_later_version_is_refused_before_its_weights_come(hub: Hub, puller: Puller) -> None:
    hub.repositories[NAME] = Repository(in_folders(int8=edited(bundle_files(), format_version=9)))
    assert "was not pulled: owner/tiny has format_version 9, this neort reads 2 and 3; update neort" in puller.refusal()
    assert hub.asked("GET", server="cdn") == []
