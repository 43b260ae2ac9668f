"""The cluster that a job runs on, and how its CPUs are shared out: to actors with a model, and to Ray's filter."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ...backend import available_cpus
from ...errors import ConfigError, UnsupportedError
from .libraries import ray

__all__ = ["LOCAL", "Pool", "Shares", "connected", "shares_of"]

LOCAL = "local"
START_TRIES = 3
QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
FILTER_CPUS = 1  # of Ray's actor that leaves out what is done


@dataclass(frozen=True)
class Pool:
    """How many actors there are, and how many CPUs each has, None for what fits; and where.

    ``address`` is a cluster's, or "local" for one that is started here and ends with the job.
    """

    workers: int | None = None
    num_threads: int | None = None
    address: str = LOCAL


@dataclass(frozen=True)
class Shares:
    """So many actors with so many CPUs each."""

    workers: int
    threads: int


@contextlib.contextmanager
def connected(pool: Pool) -> Iterator[Shares]:
    """Be connected to the cluster; a program that is so already stays it, whatever the address.

    Raises ConfigError where it is not there, or has too few CPUs; UnsupportedError where none can be started.
    """
    joined = ray.is_initialized()
    starts = pool.address == LOCAL and not joined
    shares = _shares_here(pool) if starts else None
    try:
        if shares is not None:
            _start(shares.workers * shares.threads + FILTER_CPUS)
        else:
            if not joined:
                _connect(pool.address)
            nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
            shares = shares_of(pool, [cpus for cpus in nodes if cpus])
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        yield shares
    finally:
        if not joined:
            ray.shutdown()


def _start(cpus: int) -> None:
    """Start a cluster here. Raises UnsupportedError where that fails again and again."""
    os.environ.pop("RAY_ADDRESS", None)
    for tries_left in reversed(range(START_TRIES)):
        try:
            ray.init(LOCAL, num_cpus=cpus, include_dashboard=False, **QUIET)
            return
        except Exception as error:  # Ray has no class for it: its processes gave up on each other, on a busy machine
            ray.shutdown()
            if not tries_left:
                raise UnsupportedError(
                    f"Ray does not start on this machine ({error}); see /tmp/ray/session_latest/logs"
                ) from error


def _connect(address: str) -> None:
    try:
        ray.init(address, **QUIET)
    except (ConnectionError, ValueError) as error:
        raise ConfigError(
            f"there is no Ray cluster at {address} ({error}); give --address the one that `ray start` named"
        ) from None


def shares_of(pool: Pool, nodes: Sequence[int]) -> Shares:
    """How a cluster is shared out whose nodes have so many CPUs.

    Left to itself a node has one actor, and keeps a CPU for Ray's own processes. Raises ConfigError where what was
    asked for does not fit.
    """
    if not nodes:
        raise ConfigError("no node of the cluster has CPUs; start some by `ray start`")
    threads = pool.num_threads or max(1, min(nodes) - 1)
    free = max(nodes, key=lambda cpus: (cpus % threads, cpus))  # the node where Ray's filter costs least
    fitting = sum(cpus // threads for cpus in nodes) - free // threads + (free - FILTER_CPUS) // threads
    if fitting < (pool.workers or 1):
        raise ConfigError(
            f"{pool.workers or 1} workers of {threads} CPUs, and one CPU for Ray itself, do not fit on nodes of "
            f"{', '.join(map(str, nodes))} CPUs, where {fitting} do; give fewer --workers or --num-threads"
        )
    return Shares(pool.workers or (min(fitting, len(nodes)) if pool.num_threads is None else fitting), threads)


def _shares_here(pool: Pool) -> Shares:
    """How this machine is shared out. Raises ConfigError for more threads than it has CPUs."""
    cpus = available_cpus()
    workers = pool.workers or max(1, cpus // (pool.num_threads or cpus))
    threads = pool.num_threads or max(1, cpus // workers)
    if workers * threads > cpus and workers > 1:
        raise ConfigError(
            f"{workers} workers of {threads} threads need {workers * threads} CPUs, and this process may use {cpus}; "
            "give fewer --workers or --num-threads"
        )
    return Shares(workers, threads)
