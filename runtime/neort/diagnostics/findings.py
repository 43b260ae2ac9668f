"""What is as it should be on this machine, what is worth knowing, and what is a problem, each with its remedy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ..backend import INT8_CACHE_SINCE, UNSIGNED_WEIGHTS_SINCE, onnxruntime_version
from .machine import MachineFacts

__all__ = ["Finding", "Status", "findings"]

Status = Literal["ok", "note", "problem"]
INT8_INSTRUCTIONS = {"VNNI", "AVX-VNNI-INT8", "AMX", "dotprod", "i8mm"}
LEAST_MEMORY = 512 << 20
GB = 1e9


@dataclass(frozen=True)
class Finding:
    """One finding: what it is about, its status in a word, what was found, and what helps where something does."""

    name: str
    status: Status
    found: str
    remedy: str = ""


def findings(facts: MachineFacts, saturates: bool) -> Iterator[Finding]:
    """What follows from the facts; ``saturates``: int8 products come out wrong here, left to themselves."""
    yield Finding("processor", "ok", f"{facts.processor}, {facts.system}")
    yield _instructions(facts)
    yield _products(saturates)
    yield _threads(facts)
    yield _memory(facts)
    yield Finding("versions", "ok", ", ".join(f"{name} {version}" for name, version in facts.versions.items()))
    yield _cache()


def _instructions(facts: MachineFacts) -> Finding:
    sets = facts.instructions
    if sets is None:
        return Finding("instructions", "note", "unknown: this system does not list them; the rates below tell")
    listed = ", ".join(name for name, present in sets.items() if present) or "none of those that matter"
    absent = ", ".join(name for name, present in sets.items() if not present)
    found = f"{listed}; without {absent}" if absent else listed
    if any(sets.get(name) for name in INT8_INSTRUCTIONS):
        return Finding("instructions", "ok", found)
    return Finding(
        "instructions",
        "note",
        f"{found}: no instructions for int8 products, so prompts are slower",
        "a processor with VNNI or dotprod is two to three times as fast",
    )


def _products(saturates: bool) -> Finding:
    if not saturates:
        return Finding("int8 products", "ok", "exact")
    if onnxruntime_version() >= UNSIGNED_WEIGHTS_SINCE:
        return Finding("int8 products", "note", "pairs are summed in 16 bits; neort takes the exact kernel, slower")
    since = ".".join(map(str, UNSIGNED_WEIGHTS_SINCE))
    return Finding(
        "int8 products",
        "problem",
        "pairs are summed in 16 bits, which is inexact",
        f"update onnxruntime to {since} or later, or use a bundle in fp32",
    )


def _threads(facts: MachineFacts) -> Finding:
    found = [f"{facts.threads} of {facts.cpus} CPUs"]
    if facts.affinity is not None and facts.affinity < facts.cpus:
        found.append(f"affinity allows {facts.affinity}")
    if facts.quota is not None:
        found.append(f"the container's quota is {facts.quota:g}")
    if facts.quota is not None and facts.quota < 1:
        return Finding("threads", "problem", ", ".join(found), "give the container one CPU at least")
    if facts.threads < facts.cpus:
        return Finding("threads", "note", ", ".join(found), "more CPUs need another affinity or quota of the process")
    return Finding("threads", "ok", ", ".join(found))


def _memory(facts: MachineFacts) -> Finding:
    sizes = {"in all": facts.memory, "free": facts.memory_free, "the container's limit": facts.memory_limit}
    found = ", ".join(f"{size / GB:.1f} GB {name}" for name, size in sizes.items() if size is not None)
    known = [size for size in (facts.memory_free, facts.memory_limit) if size is not None]
    if not found:
        return Finding("memory", "note", "unknown: this system does not tell")
    if known and min(known) < LEAST_MEMORY:
        return Finding("memory", "problem", found, "end other programs, or allow more: 0.5 GB is the least")
    return Finding("memory", "ok", found)


def _cache() -> Finding:
    if onnxruntime_version() >= INT8_CACHE_SINCE:
        return Finding("int8 cache", "ok", "supported")
    since = ".".join(map(str, INT8_CACHE_SINCE))
    return Finding("int8 cache", "note", "not supported", f"update onnxruntime to {since} or later for --kv-cache int8")
