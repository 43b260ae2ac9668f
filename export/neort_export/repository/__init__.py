"""Bundles of one model as a repository on a hub: the folder that is uploaded. Opens no connection."""

from __future__ import annotations

from .folder import Repository, write_repository

__all__ = ["Repository", "write_repository"]
