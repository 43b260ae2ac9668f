"""The socket that a server listens on, bound before anything that takes long.

A server without keys is for this machine alone: no other address is bound.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from ....errors import ConfigError, StorageError
from ....wording import shortened
from ..settings import Settings

__all__ = ["address_in_words", "is_local", "is_loopback", "listening_socket", "removed_at_end"]

FREE = 0
LARGEST_PORT = 65_535
UNIX = getattr(socket, "AF_UNIX", None)


def listening_socket(settings: Settings) -> socket.socket:
    """Bind what ``settings`` name; nobody can connect before it listens.

    Raises ConfigError for a host that is not this machine's, one that others reach though there are neither keys nor
    ``insecure``, and a port that is taken or not permitted; StorageError for a path where no socket can be.
    """
    if settings.unix_socket is not None:
        return _unix_socket(settings.unix_socket)
    if not 0 <= settings.port <= LARGEST_PORT:
        raise ConfigError(f"port is {settings.port}; it must be from 0, which takes a free one, to {LARGEST_PORT:,}")
    family, address = _resolved(settings.host)
    if not is_loopback(address) and settings.keys is None and not settings.insecure:
        raise ConfigError(
            f"host is {shortened(settings.host)}, where other machines reach the server, and there are no keys; give "
            "--api-key-file FILE, or --insecure to let anyone in, or --host 127.0.0.1"
        )
    return _bound(family, address, settings)


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an address."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def is_local(bound: socket.socket) -> bool:
    """Whether only this machine reaches a socket."""
    return bound.family not in (socket.AF_INET, socket.AF_INET6) or is_loopback(bound.getsockname()[0])


def address_in_words(bound: socket.socket) -> str:
    """What a client of this machine writes to reach it."""
    if bound.family == UNIX:
        return f"unix:{bound.getsockname()}"
    host, port = bound.getsockname()[:2]
    address = ipaddress.ip_address(host.partition("%")[0])
    if address.is_unspecified:
        return f"http://{socket.gethostname()}:{port}"
    return f"http://[{host}]:{port}" if address.version == 6 else f"http://{host}:{port}"


@contextlib.contextmanager
def removed_at_end(bound: socket.socket) -> Iterator[None]:
    """Remove the path of a socket of the file system at the end, unless another server has it by then."""
    path = Path(bound.getsockname()) if bound.family == UNIX else None
    made = None if path is None else path.lstat()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if path is not None and made is not None and os.path.samestat(path.lstat(), made):
                path.unlink()


def _resolved(host: str) -> tuple[int, str]:
    """The family and the numeric address of a host's name; IPv4 first, and what others reach before loopback.

    So a name that stands for both kinds of address is never taken for one of this machine alone.
    """
    try:
        found = socket.getaddrinfo(host or "0.0.0.0", None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"host is {shortened(host)}, which stands for no address ({getattr(error, 'strerror', None) or error}); "
            "give an address of this machine, such as 127.0.0.1"
        ) from None
    order = sorted(
        {(int(family), str(address[0])) for family, _, _, _, address in found},
        key=lambda each: (is_loopback(each[1]), each[0] != socket.AF_INET, each[1]),
    )
    return order[0]


def _bound(family: int, address: str, settings: Settings) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # so has all that is accepted
        if os.name == "posix":  # elsewhere it would let two servers have one port
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and address == "::":
            with contextlib.suppress(OSError):  # IPv4, too, where the system can
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        bound.bind((address, settings.port))
        bound.setblocking(False)
    except OSError as error:
        bound.close()
        taken = error.errno == errno.EADDRINUSE
        raise ConfigError(
            f"port {settings.port} of {settings.host} cannot be listened on ({error.strerror or error}); "
            f"{'end what listens there' if taken else 'give another --host'}, or another --port; 0 takes a free one"
        ) from None
    return bound


def _unix_socket(path: Path) -> socket.socket:
    """A socket of the file system that its owner alone may use; one that nobody listens on any more gives way."""
    if UNIX is None:
        raise ConfigError("this system has no sockets with a path; give --host and --port")
    bound = socket.socket(UNIX, socket.SOCK_STREAM)
    try:
        _remove_left(path)
        before = os.umask(0o177)
        try:
            bound.bind(str(path))
        finally:
            os.umask(before)
        bound.setblocking(False)
    except OSError as error:
        bound.close()
        raise StorageError(
            f"{path} cannot be a socket ({error.strerror or error}); give another --uds", error
        ) from None
    return bound


def _remove_left(path: Path) -> None:
    """Remove a socket that a server has left. Raises OSError where one listens still, or the path is something else."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(errno.EEXIST, "there is something else")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError(errno.EADDRINUSE, "a server listens there")
