"""What neort's integrations set for Ray, before it is imported."""

from __future__ import annotations

import os

__all__ = ["keep_quiet"]


def keep_quiet() -> None:
    """Have Ray report nothing about its use to its makers, unless the environment says that it may."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
