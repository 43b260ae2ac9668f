"""The requests that are being answered, and whether the server takes further ones.

Knows nothing about models or HTTP. All happens in one event loop's thread.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from ..protocol import RequestError

__all__ = ["InFlight"]

RETRY_AFTER = "5"  # seconds: about what a restart takes


class InFlight:
    """Requests between their first byte and the last byte of their answer.

    Attributes:
        draining: the server ends; what runs may come to its end.
        failed: why no request can be answered any more.
    """

    def __init__(self) -> None:
        self.draining = False
        self.failed: str | None = None
        self._ends: set[asyncio.Future[RequestError]] = set()
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._ends)

    @contextlib.contextmanager
    def request(self) -> Iterator[asyncio.Future[RequestError]]:
        """Count a request. What it yields is done when the request must end, with what its client is told."""
        end: asyncio.Future[RequestError] = asyncio.get_running_loop().create_future()
        self._ends.add(end)
        try:
            yield end
        finally:
            self._ends.discard(end)
            end.cancel()
            self._changed.set()

    def check_open(self) -> None:
        """Raise RequestError where no further request is taken."""
        if self.failed is not None:
            raise RequestError(503, "the model has failed and the server ends; ask again later", headers=_later())
        if self.draining:
            raise RequestError(503, "the server ends and takes no request; ask again later", headers=_later())

    def end_all(self, error: RequestError) -> None:
        """End every request; its client is told ``error``."""
        for end in self._ends:
            if not end.done():
                end.set_result(error)

    async def emptied(self) -> None:
        """Wait until no request is left."""
        while self._ends:
            self._changed.clear()
            await self._changed.wait()


def _later() -> dict[str, str]:
    return {"Retry-After": RETRY_AFTER}
