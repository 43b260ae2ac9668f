"""What onnxruntime makes of attention on this machine, found by asking for some.

Knows what to attend to and how to judge the answer; knows nothing about onnxruntime, which its caller runs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..arrays import AnyArray, Doubles, Floats
from .memory import lacks_memory

__all__ = ["HYBRID", "Attend", "Open", "heads_per_thread", "question", "splits", "window_difference"]

PROBES = Path(__file__).with_name("probes")  # written by tests/support/probe_model.py
SPLIT = PROBES / "split_past.onnx"  # one head that sees all
LOCAL = PROBES / "local_window.onnx"  # HEADS heads that see WINDOW positions
HEADS, HEAD_DIM, WINDOW = 2, 8, 4
RUNS = (7, 1, 4)  # tokens: a prompt, a step, and a prompt that goes on
HYBRID = 4  # onnxruntime cuts work into so many pieces per thread where processors are of several kinds

# Attention on feeds and a cache, [B, H, M, D] by name, that is past and present at once; returns [B, S, H * D].
Attend = Callable[[dict[str, AnyArray], dict[str, Floats]], Floats]
Open = Callable[[bytes, int], Attend]  # makes it of an ONNX model and a number of threads


def window_difference(open_attention: Open) -> float:
    """The largest absolute difference of local attention to what it should be; inf where it cannot be computed.

    Raises MemoryError where there is no memory for it.
    """
    try:
        attend = open_attention(LOCAL.read_bytes(), 1)
        length = sum(RUNS)
        qkv = np.random.default_rng(0).standard_normal((1, length, 3 * HEADS * HEAD_DIM)).astype(np.float32)
        cache = {name: np.zeros((1, HEADS, length, HEAD_DIM), np.float32) for name in ("key", "value")}
        starts = np.cumsum((0, *RUNS)).tolist()
        runs = [attend(_feeds(qkv[:, a:b], [a]), cache) for a, b in itertools.pairwise(starts)]
        difference = float(np.abs(np.concatenate(runs, axis=1) - expected_attention(qkv)).max())
        return difference if np.isfinite(difference) else float("inf")
    except Exception as error:  # onnxruntime's errors share no public base class
        if lacks_memory(error):
            raise MemoryError(str(error)) from error
        return float("inf")


def expected_attention(qkv: Floats) -> Doubles:
    """Causal attention [B, S, H * D] where a position sees itself and WINDOW - 1 before it; scores are not scaled."""
    batch, length, _ = qkv.shape
    split = qkv.reshape(batch, length, 3, HEADS, HEAD_DIM).astype(np.float64)
    queries, keys, values = split.transpose(2, 0, 3, 1, 4)  # each [B, H, S, D]
    distance = np.arange(length)[:, None] - np.arange(length)
    seen = (distance >= 0) & (distance < WINDOW)
    scores = np.einsum("bhqd,bhkd->bhqk", queries, keys)  # no BLAS, whose buffers take more memory than small models
    weights = np.exp(np.where(seen, scores, -np.inf))
    attention: Doubles = np.einsum("bhqk,bhkd->bhqd", weights, values) / weights.sum(-1, keepdims=True)
    return attention.swapaxes(1, 2).reshape(batch, length, -1)


def heads_per_thread(open_attention: Open, head_dim: int, positions: int) -> int:
    """Below how many heads per thread onnxruntime splits the past of a decode step among threads; 0: never.

    Where a run has one new token per sequence, all of one length, and fewer heads in all than the threads could take,
    onnxruntime (from 1.28 on) cuts the past into blocks for the idle ones, and adds up in another order. A thread takes
    one head, or `HYBRID` where processors are of several kinds. How long a block is depends on the processor's cache;
    so the question is put with ``head_dim`` and ``positions`` of the model, on two threads: is one head's past
    split, and are two heads'? In a batch of several lengths nothing is, which is what the answers are compared with.

    Where it cannot be computed, the answer is `HYBRID`: a batch of several lengths is slower, never wrong.
    """
    try:
        attend = open_attention(SPLIT.read_bytes(), 2)
        new, cache = question(2, head_dim, positions)
        if not splits(attend, 1, new, cache):
            return 0
        return HYBRID if splits(attend, 2, new, cache) else 1
    except Exception:  # onnxruntime's errors share no public base class
        return HYBRID


def question(count: int, head_dim: int, positions: int) -> tuple[Floats, dict[str, Floats]]:
    """A new position's query, key and value [1, 3 * D], and the pasts of ``count`` equal sequences and an empty one."""
    random = np.random.default_rng(0)
    sizes = np.linspace(0.5, 1.5, positions, dtype=np.float32)[:, None]
    cache = {name: np.zeros((count + 1, 1, positions, head_dim), np.float32) for name in ("key", "value")}
    for rows in cache.values():  # a few rows over and over, in other sizes: drawing all would take the longest
        rows[:-1] = np.resize(random.random((61, head_dim), np.float32) - np.float32(0.5), rows.shape[2:]) * sizes
    query, _, value = random.random((3, head_dim), np.float32) - np.float32(0.5)
    score = np.einsum("md,d->m", cache["key"][0, 0], query).max() + 1  # so large that it counts in any block
    return np.concatenate([query, query * (score / np.square(query).sum()), value])[None], cache


def splits(attend: Attend, count: int, new: Floats, cache: dict[str, Floats]) -> bool:
    """Whether ``count`` sequences get other bits by themselves than with a shorter one beside them."""

    def step(lengths: list[int]) -> Floats:
        slots = {name: rows[: len(lengths)] for name, rows in cache.items()}
        return attend(_feeds(np.stack([new] * len(lengths)), lengths), slots)[:count]

    whole = [cache["key"].shape[2] - 1] * count
    return not np.array_equal(step(whole), step([*whole, 0]))


def _feeds(qkv: Floats, lengths: list[int]) -> dict[str, AnyArray]:
    """Packed queries, keys and values [B, S, 3 * H * D] after ``lengths`` cached positions."""
    last = np.array(lengths, np.int32) + np.int32(qkv.shape[1] - 1)
    return {
        "qkv": np.ascontiguousarray(qkv),
        "seqlens_k": last,
        "total_sequence_length": np.array(last.max() + 1, np.int32),
    }
