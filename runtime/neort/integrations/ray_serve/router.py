"""Which replica a proxy of Ray Serve sends a request to: the less busy of two, wherever they are.

Ray's own router prefers the proxy's node for as long as a replica there takes requests. Ours take as many as they can
refuse, so all would go there, and others had nothing to do.
"""

from __future__ import annotations

import random
from typing import Any

from ray.serve.request_router import FIFOMixin, PendingRequest, RequestRouter, RunningReplica

__all__ = ["EvenRouter"]


class EvenRouter(FIFOMixin, RequestRouter):  # type: ignore[misc]
    """Two replicas by chance, of which Ray takes the one with fewer requests."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """See Ray's `RequestRouter`."""
        found: list[Any] = list(candidate_replicas)
        return [random.sample(found, min(len(found), 2))]
