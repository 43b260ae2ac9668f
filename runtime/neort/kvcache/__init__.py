"""Keys and values: the buffers that the graph writes, and what is kept of them for later prompts."""

from __future__ import annotations

from .buffers import CACHE_TYPES, CacheType, KVCache, bind_buffer, bind_past, first_row
from .prefix import Prefix
from .prefix_cache import Pin, PrefixCache, Rows
from .prefix_file import PrefixFormat

__all__ = [
    "CACHE_TYPES",
    "CacheType",
    "KVCache",
    "Pin",
    "Prefix",
    "PrefixCache",
    "PrefixFormat",
    "Rows",
    "bind_buffer",
    "bind_past",
    "first_row",
]
