"""A server of several processes that share one port, and the weights of their models."""

from __future__ import annotations

from .sources import ModelSource, Sources
from .supervisor import serve_workers
from .worker import Job

__all__ = ["Job", "ModelSource", "Sources", "serve_workers"]
