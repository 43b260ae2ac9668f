"""Sockets and connections: where a server listens, and how long it bears with a client."""

from __future__ import annotations

from .connections import Connection, Connections, allowed_connections
from .sockets import address_in_words, is_local, listening_socket, removed_at_end

__all__ = [
    "Connection",
    "Connections",
    "address_in_words",
    "allowed_connections",
    "is_local",
    "listening_socket",
    "removed_at_end",
]
