"""Rewrites of the traced graph, one per module, each a pass with its rule as the docstring.

decoder   BindWeights, FuseGelu, PackQKV, FlattenTokens, FuseLinears, PadHeads, KeepLastLogits
int8      FoldOutliers, QuantizeLinears, FuseGeluBias, QuantizeEmbedding, after those
blocks    FoldOutliers, QuantizeBlocks, PadRows, QuantizeEmbedding instead
int8 cache  QuantizeCache, on a clone of what these made
portable  PortableSignature, likewise
"""

from __future__ import annotations

from .bind_weights import BindWeights
from .flatten_tokens import FlattenTokens
from .fold_outliers import FoldOutliers
from .fuse_gelu import FuseGelu, FuseGeluBias
from .fuse_linears import FuseLinears
from .keep_last_logits import KeepLastLogits
from .pack_qkv import PackQKV
from .pad_heads import PadHeads
from .pad_rows import PadRows
from .portable_signature import PortableSignature
from .quantize_blocks import QuantizeBlocks
from .quantize_cache import QuantizeCache
from .quantize_embedding import QuantizeEmbedding
from .quantize_linears import QuantizeLinears

__all__ = [
    "BindWeights",
    "FlattenTokens",
    "FoldOutliers",
    "FuseGelu",
    "FuseGeluBias",
    "FuseLinears",
    "KeepLastLogits",
    "PackQKV",
    "PadHeads",
    "PadRows",
    "PortableSignature",
    "QuantizeBlocks",
    "QuantizeCache",
    "QuantizeEmbedding",
    "QuantizeLinears",
]
