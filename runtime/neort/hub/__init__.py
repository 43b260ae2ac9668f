"""Bundles by name: which names there are, and where what was pulled lies. Opens no connection."""

from __future__ import annotations

from .cache import DEFAULT_REVISION, CachedRepository, cached_repository, folder_name, hub_home
from .finding import cached_bundle, find_bundle, pulled_name
from .names import (
    HUB_HOSTS,
    Address,
    HubName,
    Name,
    has_host,
    is_commit,
    is_folder,
    is_revision,
    read_name,
    required_name,
)

__all__ = [
    "DEFAULT_REVISION",
    "HUB_HOSTS",
    "Address",
    "CachedRepository",
    "HubName",
    "Name",
    "cached_bundle",
    "cached_repository",
    "find_bundle",
    "folder_name",
    "has_host",
    "hub_home",
    "is_commit",
    "is_folder",
    "is_revision",
    "pulled_name",
    "read_name",
    "required_name",
]
