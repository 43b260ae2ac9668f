"""The application that Ray is told by its name: replicas, how many of them, and what may go to one at once."""

from __future__ import annotations

import os
from typing import Any

from ray import serve

from .options import ServeOptions
from .replica import Replica

__all__ = ["NAME", "build"]

NAME = "neort"
ROUTER = f"{__package__}.router.EvenRouter"
REFUSED = 64  # requests beside those with a slot or a place in the queue: to be refused, and those of other routes
DRAINED_WITHIN = 0.5  # seconds after its last request that a replica is seen to have none
HEALTH_EVERY = 2.0  # seconds


def build(args: dict[str, Any]) -> serve.Application:
    """The application of ``serve run neort.integrations.ray_serve:build NAME=VALUE ...``.

    ``args`` are those of `ServeOptions`. Ray sends a replica more requests than it takes: those beyond its queue are
    refused by the server itself, in OpenAI's form, since Ray's own refusals have another one.

    Raises ArgumentTypeError and ConfigError for arguments of no use. A bundle that cannot be loaded fails its replicas.
    """
    options = ServeOptions.read(args)
    deployment = serve.deployment(
        Replica,
        name=NAME,
        ray_actor_options={"num_cpus": options.num_threads},
        max_ongoing_requests=options.max_batch_size + options.max_queue + REFUSED,
        graceful_shutdown_timeout_s=options.shutdown_timeout,
        graceful_shutdown_wait_loop_s=DRAINED_WITHIN,
        health_check_period_s=HEALTH_EVERY,
        **_replicas(options),
        **_router(),
    )
    return deployment.bind(options)


def _replicas(options: ServeOptions) -> dict[str, Any]:
    """How many replicas there are, in Ray's words."""
    if options.max_replicas is None:
        return {"num_replicas": options.replicas}
    scaling = {
        "min_replicas": options.replicas,
        "max_replicas": options.max_replicas,
        "target_ongoing_requests": options.target,
        "upscale_delay_s": options.upscale_delay,
        "downscale_delay_s": options.downscale_delay,
    }
    return {"autoscaling_config": scaling}


def _router() -> dict[str, Any]:
    """Which router Ray's proxies have; where HAProxy takes their place, which spreads requests evenly, it has none."""
    if os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") == "1":
        return {}
    return {"request_router_config": {"request_router_class": ROUTER}}
