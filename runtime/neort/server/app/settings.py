"""How a server is run: where it listens, who may use it, and how long it waits for whom.

Knows nothing about models or HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from .access.keys import Keys

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """The options of a server; times are in seconds.

    Attributes:
        host: name or address to listen on; all of its addresses must be the machine's own (loopback), unless there are
            ``keys`` or it is ``insecure``.
        port: 0 takes one that is free.
        unix_socket: a path to listen on in the place of ``host`` and ``port``.
        keys: of which a request must name one; None: it needs none.
        insecure: let anyone who reaches the port use it.
        allowed_hosts: further names in the field Host, where the server listens on loopback.
        timeout: after which a request ends with an error; None: never.
        shutdown_timeout: that running requests have once the server is told to end.
        max_body_bytes: of a request.
        max_head_bytes: of a request's line and fields.
        max_fields: of a request's head.
        head_timeout: in which the whole head of a request must come, and what a refused body has left.
        body_timeout: in which the whole body must come.
        write_timeout: that a client may leave an answer unread, once the system's buffers are full.
        keep_alive: that a connection may stay without a request.
        max_connections: open at once; beyond, those without a request give way, and then requests are refused.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    unix_socket: Path | None = None
    keys: Keys | None = None
    insecure: bool = False
    allowed_hosts: frozenset[str] = field(default_factory=frozenset)
    timeout: float | None = 600.0
    shutdown_timeout: float = 30.0
    max_body_bytes: int = 4 << 20
    max_head_bytes: int = 32 << 10
    max_fields: int = 100
    head_timeout: float = 10.0
    body_timeout: float = 30.0
    write_timeout: float = 60.0
    keep_alive: float = 75.0
    max_connections: int = 1024
