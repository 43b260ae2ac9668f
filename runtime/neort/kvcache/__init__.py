"""Keys and values: the buffers that the graph writes, and what is stored of them for later prompts."""

from __future__ import annotations

from .buffers import CACHE_TYPES, CacheType, KVCache
from .prefix import Prefix
from .prefix_cache import Pin, PrefixBlock, PrefixCache
from .prefix_file import PrefixFormat

__all__ = ["CACHE_TYPES", "CacheType", "KVCache", "Pin", "Prefix", "PrefixBlock", "PrefixCache", "PrefixFormat"]
