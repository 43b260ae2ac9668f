"""Tensors on disk by their names there: safetensors or pickles, whole or in shards, read a few rows at a time."""

from __future__ import annotations

from .files import open_tensors
from .finite import refuse_overflow
from .pickles import open_pickle
from .safetensors_files import open_safetensors
from .stored import Floats, StoredTensor

__all__ = ["Floats", "StoredTensor", "open_pickle", "open_safetensors", "open_tensors", "refuse_overflow"]
