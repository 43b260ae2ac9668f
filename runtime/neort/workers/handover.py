"""Connections that one process accepts and another one serves, handed over between two messages of their pipe."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection

__all__ = ["hand_over", "taken_over"]

MARK = b"\0"  # what accompanies a file: not even an empty message can be without a byte


def hand_over(pipe: Connection, connection: socket.socket, pid: int) -> None:
    """Send a connection to the process at the other end of a pipe; it stays open here, until it has been taken there.

    Raises OSError where that process has ended.
    """
    if sys.platform == "win32":
        pipe.send_bytes(connection.share(pid))
    else:
        with _channel(pipe) as channel:
            socket.send_fds(channel, [MARK], [connection.fileno()])


def taken_over(pipe: Connection) -> socket.socket | None:
    """The connection that comes next; None where this process may open no further file.

    Raises OSError, EOFError where the other process has ended.
    """
    if sys.platform == "win32":
        return socket.fromshare(pipe.recv_bytes())
    with _channel(pipe) as channel:
        mark, files, _, _ = socket.recv_fds(channel, len(MARK), 1)
    if not mark:
        raise EOFError
    if not files:
        return None
    os.set_inheritable(files[0], False)
    return socket.socket(fileno=files[0])


@contextlib.contextmanager
def _channel(pipe: Connection) -> Iterator[socket.socket]:
    """The pipe as a socket, which it is; without a file of its own, since there may be none left."""
    channel = socket.socket(fileno=pipe.fileno())
    try:
        yield channel
    finally:
        channel.detach()
