"""A cluster of Ray on this machine: two nodes of two CPUs each, as far as Ray knows."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

from neort.integrations.ray_settings import keep_quiet

__all__ = ["two_nodes"]


@contextlib.contextmanager
def two_nodes() -> Iterator[str]:
    """Start a cluster, join it and yield its address; all of it ends with the context."""
    keep_quiet()
    import ray
    from ray.cluster_utils import Cluster

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what other projects warn of is theirs
        cluster = Cluster()
        try:
            started(cluster, include_dashboard=False, include_log_monitor=False)
            started(cluster)
            ray.init(address=cluster.address, log_to_driver=False, configure_logging=False)
            yield str(cluster.address)
        finally:
            ray.shutdown()
            cluster.shutdown()


def started(cluster: Any, **options: bool) -> None:
    """Add a node of two CPUs. Ray gives it 30 seconds to start, which on a busy machine may be too few."""
    for again in (True, True, False):
        try:
            cluster.add_node(num_cpus=2, **options)
        except Exception:
            if not again:
                raise
        else:
            return
