"""A name finds what was pulled, a folder comes first, and no connection is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import neort
from neort.errors import BundleError
from neort.hub import CachedRepository, HubName, cached_repository, find_bundle, pulled_name
from published import bundle_files

COMMIT, OTHER = "c0ffee" + 34 * "0", "facade" + 34 * "1"
Lay = Callable[..., Path]


@pytest.fixture
def lay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lay:
    """Lays files of a commit into an empty cache, and notes what its branches and tags are."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NEORT_CACHE", str(tmp_path / "own"))
    monkeypatch.chdir(tmp_path)

    def lay(bundles: Mapping[str, Mapping[str, bytes]], commit: str = COMMIT, *revisions: str) -> Path:
        cached = CachedRepository(tmp_path / "home" / "hub", "models--owner--tiny")
        for folder, files in bundles.items():
            (cached.snapshot(commit) / folder).mkdir(parents=True)
            for name, content in files.items():
                (cached.snapshot(commit) / folder / name).write_bytes(content)
        for revision in revisions or ("main",):
            cached.ref(revision).parent.mkdir(parents=True, exist_ok=True)
            cached.ref(revision).write_text(commit)
        return cached.snapshot(commit)

    return lay


def refusal(name: str) -> str:
    with pytest.raises(BundleError) as caught:
        find_bundle(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_only_format_is_found(lay: Lay) -> None:
    snapshot = lay({"int4": bundle_files("int4")})
    for name in ("owner/tiny", "owner/tiny@main", f"owner/tiny@{COMMIT}", "owner/tiny/int4", "owner/tiny/int4@main"):
        assert find_bundle(name) == snapshot / "int4"
    assert refusal("owner/tiny/int8").endswith("holds owner/tiny/int8 as int4 only; run `neort pull owner/tiny/int8`")


def test_of_several_formats_one_must_be_named(lay: Lay) -> None:
    snapshot = lay({"int4": bundle_files("int4"), "int8": bundle_files()}, COMMIT, "v1")
    assert "int4 and int8" in refusal("owner/tiny@v1")
    assert refusal("owner/tiny@v1").endswith("give owner/tiny/int4@v1 or owner/tiny/int8@v1")
    assert find_bundle("owner/tiny/int8@v1") == snapshot / "int8"


def test_a_bundle_at_the_root_is_found_by_the_name_and_by_its_format(lay: Lay) -> None:
    snapshot = lay({"": bundle_files()})
    assert find_bundle("owner/tiny") == find_bundle("owner/tiny/int8") == snapshot
    assert "another format only" in refusal("owner/tiny/int4")


def test_a_folder_comes_first(lay: Lay, tmp_path: Path) -> None:
    lay({"int8": bundle_files()})
    (tmp_path / "owner" / "tiny").mkdir(parents=True)
    assert find_bundle("owner/tiny") == Path("owner/tiny")
    assert find_bundle(tmp_path) == tmp_path
    assert find_bundle("nowhere") == Path("nowhere")
    assert (pulled_name("owner/tiny"), pulled_name("owner/other")) == (None, HubName("owner/other"))


def test_what_was_not_pulled_is_told_as_a_folder_and_as_a_name(lay: Lay, tmp_path: Path) -> None:
    told = refusal("owner/tiny")
    assert told == (
        f"owner/tiny is no folder here, and the cache {tmp_path / 'home' / 'hub'} does not hold it; give a bundle's "
        "folder, or run `neort pull owner/tiny` (a checkpoint becomes a bundle by neort-export)"
    )
    with pytest.raises(FileNotFoundError):
        neort.load("owner/tiny")
    with pytest.raises(FileNotFoundError, match="neort pull owner/tiny@v1"):
        neort.check("owner/tiny@v1")
    assert refusal("https://example.org/a").endswith("run `neort pull https://example.org/a`")


def test_other_revisions_that_are_there_are_named(lay: Lay) -> None:
    lay({"int8": bundle_files()}, OTHER, "v1", "v2")
    told = refusal("owner/tiny")
    assert "but at 'v1' and 'v2'; give a bundle's folder or owner/tiny@v1, or run `neort pull owner/tiny`" in told


def test_a_bundle_in_part_is_told_by_what_it_lacks(lay: Lay) -> None:
    snapshot = lay({"int8": bundle_files()})
    (snapshot / "int8" / "weights.data").unlink()
    told = refusal("owner/tiny")
    assert "holds only a part of owner/tiny (without weights.data); `neort pull owner/tiny` fetches the rest" in told


@pytest.mark.parametrize("ref", ["", "main", "../../x", COMMIT[:-1], COMMIT.upper(), "\xff" * 40])
def test_a_ref_that_names_no_commit_finds_nothing(lay: Lay, ref: str) -> None:
    snapshot = lay({"int8": bundle_files()})
    (snapshot.parents[1] / "refs" / "main").write_text(ref, encoding="latin-1")
    assert "does not hold it" in refusal("owner/tiny")


@pytest.mark.parametrize(
    ("variables", "cache"),
    [
        ({"HF_HUB_CACHE": "/a", "HUGGINGFACE_HUB_CACHE": "/b", "HF_HOME": "/c"}, "/a"),
        ({"HUGGINGFACE_HUB_CACHE": "/b", "HF_HOME": "/c"}, "/b"),
        ({"HF_HOME": "$PLACE/c", "PLACE": "/p"}, "/p/c/hub"),
        ({"XDG_CACHE_HOME": "/d"}, "/d/huggingface/hub"),
        ({"HF_HOME": "", "HOME": "/e", "USERPROFILE": "/e"}, "/e/.cache/huggingface/hub"),
    ],
)
def test_the_cache_is_where_the_hub_s_clients_have_it(
    variables: dict[str, str], cache: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cached_repository(HubName("owner/tiny")).folder == Path(cache) / "models--owner--tiny"
