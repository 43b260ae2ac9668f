"""Keys from files, sockets that only this machine reaches, and JSON as its standard has it."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from neort import ConfigError, StorageError
from neort.server.app import Keys, Settings, listening_socket
from neort.server.app.bodies import DEEPEST, decoded
from neort.server.app.transport import address_in_words, allowed_connections, removed_at_end
from neort.server.protocol import RequestError

KEY = "0123456789abcdef"
KEYS = Keys([KEY])
POSIX = pytest.mark.skipif(os.name != "posix", reason="modes of files, and sockets with a path, are POSIX's")


# Keys


def key_file(folder: Path, text: str | bytes, mode: int = 0o600) -> Path:
    file = folder / "keys"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    file.chmod(mode)
    return file


def test_a_file_has_a_key_on_each_line_beside_remarks(tmp_path: Path) -> None:
    keys = Keys.from_file(key_file(tmp_path, f"\ufeff# ours\n\n  {KEY}1 \r\n#{KEY}2\n{KEY}3"))
    assert [keys.admit(each) for each in (f"{KEY}1", f"{KEY}2", f"{KEY}3", "", "# ours", KEY)] == [1, 0, 1, 0, 0, 0]


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "short", f"{KEY} with blanks", f"{KEY}ü", b"\xff" * 20])
def test_a_file_without_a_usable_key_is_refused_and_not_repeated(tmp_path: Path, text: str | bytes) -> None:
    with pytest.raises(ConfigError) as caught:
        Keys.from_file(key_file(tmp_path, text))
    assert KEY not in str(caught.value)


@POSIX
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o677])
def test_a_file_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigError, match="chmod 600"):
        Keys.from_file(key_file(tmp_path, KEY, mode))


def test_a_file_that_is_not_there_or_no_file_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            Keys.from_file(path)


def test_no_key_is_kept_as_it_is() -> None:
    assert KEY not in repr(vars(KEYS))
    assert KEY.encode() not in repr(vars(KEYS)).encode()


# Sockets


@pytest.fixture
def bound(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Binds as settings say, and closes in the end."""
    opened: list[socket.socket] = []

    def bind(**options: Any) -> socket.socket:
        opened.append(listening_socket(Settings(**{"port": 0, **options})))
        return opened[-1]

    yield bind
    for each in opened:
        each.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2"])
def test_this_machines_own_addresses_need_no_keys(bound: Any, host: str) -> None:
    found = bound(host=host)
    assert found.getsockname()[0].startswith("127.")
    assert address_in_words(found) == f"http://{found.getsockname()[0]}:{found.getsockname()[1]}"


def test_what_the_system_would_keep_for_a_larger_packet_is_sent_at_once(bound: Any) -> None:
    listening = bound()
    assert listening.proto == socket.IPPROTO_TCP  # by which asyncio knows that it may set TCP_NODELAY
    listening.setblocking(True)
    listening.listen()
    with socket.create_connection(listening.getsockname()), listening.accept()[0] as accepted:
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_the_loopback_of_ipv6_needs_no_keys(bound: Any) -> None:
    try:
        found = bound(host="::1")
    except ConfigError as error:
        pytest.skip(str(error))
    assert address_in_words(found).startswith("http://[::1]:")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "::ffff:192.0.2.1", "0", "2130706434.1"])
def test_an_address_that_others_reach_needs_keys_or_a_word(host: str) -> None:
    with pytest.raises(ConfigError) as caught:
        listening_socket(Settings(host=host, port=0))
    if "stands for no address" not in str(caught.value):
        assert "--insecure" in str(caught.value)


def test_a_name_of_which_others_reach_an_address_needs_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def resolve(*_: Any, **__: Any) -> list[Any]:
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, ("127.0.0.1", 0)), (*kind, ("192.0.2.7", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(ConfigError, match="--insecure"):
        listening_socket(Settings(host="both.example", port=0))


@pytest.mark.parametrize("options", [{"keys": KEYS}, {"insecure": True}])
def test_with_keys_or_a_word_any_address_will_do(bound: Any, options: dict[str, Any]) -> None:
    found = bound(host="0.0.0.0", **options)
    assert address_in_words(found) == f"http://{socket.gethostname()}:{found.getsockname()[1]}"


def test_a_port_that_is_taken_or_none_is_told(bound: Any) -> None:
    taken = bound()
    taken.listen()
    with pytest.raises(ConfigError, match="--port"):
        bound(port=taken.getsockname()[1])
    with pytest.raises(ConfigError, match="65,535"):
        bound(port=65_536)
    with pytest.raises(ConfigError, match="stands for no address"):
        bound(host="no.such.host.invalid")


@POSIX
def test_a_socket_with_a_path_is_its_owners_and_takes_the_place_of_one_that_was_left(bound: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:  # paths of sockets are short
        path = Path(folder) / "s"
        first = bound(unix_socket=path)
        assert path.stat().st_mode & 0o177 == 0
        first.close()
        second = bound(unix_socket=path)
        assert address_in_words(second) == f"unix:{path}"
        second.listen()
        with pytest.raises(StorageError, match="a server listens there"):
            bound(unix_socket=path)
        other = Path(folder) / "file"
        other.write_text("mine")
        with pytest.raises(StorageError, match="something else"):
            bound(unix_socket=other)
        assert other.read_text() == "mine"
        with removed_at_end(second):
            assert path.exists()
        assert not path.exists()
        with removed_at_end(bound(unix_socket=path)):
            path.unlink()
            path.write_text("another's")
        assert path.exists()


@POSIX
@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "expected", "raised"),
    [
        (1 << 20, 1 << 20, 1024, 1024, None),
        (1024, 1 << 20, 1024, 1024, 2112),
        (256, 1024, 1024, 480, 1024),
        (256, 256, 1024, 96, None),
        (64, 64, 10, 1, None),
        (-1, -1, 1024, 1024, None),
        (256, -1, 1024, 1024, 2112),
    ],
)
def test_connections_need_files_for_which_the_limit_is_raised(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, wanted: int, expected: int, raised: int | None
) -> None:
    resource = pytest.importorskip("resource")
    found: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "RLIM_INFINITY", -1)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: found.append(limits))
    assert allowed_connections(wanted) == expected
    assert found == ([] if raised is None else [(raised, hard)])


# JSON


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"{'a': 1}",
        b'{"a": 1,}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": 1} x',
        b"\xef\xbb\xbf{}",
        b'{"a": "\xff"}',
        b'{"a": "\xed\xa0\x80"}',
        b'{"a": "\n"}',
        b'{"a": ' + b"1" * 5000 + b"}",
        "{}".encode("utf-16"),
        nested(DEEPEST + 1),
        nested(100_000),
        b'{"a":' * 100_000,
        b'[{"a":' * (DEEPEST // 2) + nested(2) + b"}]" * (DEEPEST // 2),
    ],
    ids=range(19),
)
def test_what_is_no_sound_json_is_refused_in_a_short_sentence(body: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        decoded(body)
    assert caught.value.status == 400
    assert len(caught.value.message) < 300


def test_what_is_wrong_is_told_by_its_place_and_not_by_its_text() -> None:
    with pytest.raises(RequestError) as caught:
        decoded(b'{"prompt": "secret" "n"}')
    assert "line 1, column 21" in caught.value.message
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("value", [None, 1, 1.5, "é\n\u0000", [], {"a": [{"b": {}}]}, 10**400, -0.0, 1e-400])
def test_sound_json_is_what_it_says(value: object) -> None:
    assert decoded(json.dumps(value).encode()) == value
    assert decoded(nested(DEEPEST)) == json.loads(nested(DEEPEST))
