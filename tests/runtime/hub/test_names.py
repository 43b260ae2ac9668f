"""What is a name of something that was pulled, and what is a path."""

from __future__ import annotations

import pytest

from neort.errors import ConfigError
from neort.hub import Address, HubName, read_name, required_name

COMMIT = "c0ffee" + 34 * "0"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("owner/tiny", HubName("owner/tiny")),
        ("owner/tiny@v1.0", HubName("owner/tiny", "v1.0")),
        ("owner/tiny@refs/pr/1", HubName("owner/tiny", "refs/pr/1")),
        ("Own-er_1/ti.ny/int8-block@main", HubName("Own-er_1/ti.ny", "main", "int8-block")),
        (f"owner/tiny/int4@{COMMIT}", HubName("owner/tiny", COMMIT, "int4")),
        ("https://Example.org:443/a/b/", Address("https://example.org/a/b")),
        ("https://example.org/a//b/manifest.json", Address("https://example.org/a/b")),
        ("https://example.org:8443", Address("https://example.org:8443")),
        ("http://127.0.0.1:8000/x", Address("http://127.0.0.1:8000/x")),
        ("http://[::1]:8000/x", Address("http://[::1]:8000/x")),
    ],
)
def test_names_are_read_and_told_alike(text: str, name: HubName | Address) -> None:
    assert read_name(text) == name == read_name(str(name))


@pytest.mark.parametrize(
    "text",
    [
        "tiny", "./owner/tiny", "/owner/tiny", "~/tiny", "../tiny", "owner/", "owner/tiny/", "owner//tiny", "a/b/c/d",
        "owner\\tiny", "C:/tiny", "owner/ti ny", "owner/ti--ny", "owner/ti..ny", "owner/tiny.git", "owner/-tiny",
        "owner/tiny@", "owner/tiny@../x", "owner/tiny@a..b", "owner/tiny@.x", "owner/tiny@a/", "owner/tïny", "",
        "owner/tiny\0", "owner/tiny@v1\n", f"owner/{'n' * 97}",
    ],
)  # fmt: skip
def test_anything_else_is_a_path(text: str) -> None:
    assert read_name(text) is None
    with pytest.raises(ConfigError, match="names nothing that can be pulled; give OWNER/NAME"):
        required_name(text)


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("http://example.org/a", "not encrypted, so anyone on the way could answer with another model"),
        ("http://127.0.0.1.example.org/a", "not encrypted"),
        ("https://user:secret@example.org/a", "leave out what follows"),
        ("https://example.org/a?token=1", "leave out what follows"),
        ("https://example.org/a#b", "leave out what follows"),
        ("https://example.org/../a", "no address"),
        ("https://example.org/a b", "no address"),
        ("https://exämple.org/a", "no address"),
        ("file:///etc/passwd", "no address"),
        ("ftp://example.org/a", "no address"),
        ("https://", "no address"),
        ("https://example.org:99999/a", "no address"),
        ("https://example.org:0/a", "no address"),
        ("https://huggingface.co/owner/tiny", "give the name alone, OWNER/NAME"),
        (f"https://example.org/{'a' * 1000}", "no address"),
    ],
)
def test_addresses_that_hold_secrets_or_cannot_be_trusted_are_refused(address: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        read_name(address)


def test_the_hub_s_address_without_its_beginning_is_refused_too() -> None:
    with pytest.raises(ConfigError, match="give the name alone"):
        required_name("huggingface.co/owner/tiny")


def test_only_a_whole_commit_is_one() -> None:
    assert HubName("owner/tiny", COMMIT).is_commit
    assert not HubName("owner/tiny", COMMIT[:-1]).is_commit
    assert not HubName("owner/tiny").is_commit


def test_addresses_have_folders_of_their_own_in_the_cache() -> None:
    keys = {Address(f"https://example.org{place}").key for place in ("", "/a", "/a/b", ":8443/a")}
    assert len(keys) == 4
    assert all(key.replace("-", "").replace(".", "").replace("_", "").isalnum() for key in keys)
