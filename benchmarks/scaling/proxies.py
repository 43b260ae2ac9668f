"""What does a way in to a server cost for each event of a stream, and a replica that has nothing to do?

    python -m benchmarks.scaling.proxies

needs `pip install -e ".[ray]"` and Linux, and runs alone. STREAMS streams, each of PACE events a second that cost
nothing to make, come by uvicorn alone, as in `neort serve`; by the proxy of Ray Serve; and by HAProxy, which Ray Serve
can have in its proxy's place. What is measured is the CPU time of each of the processes on the way, less what they take
when idle: the median of ROUNDS rounds. The controller's CPU time is measured with 1 and with
MANY replicas that are asked nothing.

Writes results/proxies.json.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..harness.arguments import script_parser
from ..harness.results import write_results
from .paced import EVENT, EVENTS, PACE, deployment

STREAMS = 32
MANY = 16
ROUNDS = 3
IDLE = 60.0  # seconds
WAYS = ("uvicorn", "Ray Serve's proxy", "Ray Serve with HAProxy")
ROLES = {
    "benchmarks.scaling.paced": "server",
    "ServeReplica": "replica",
    "ProxyActor": "proxy",
    "HAProxyManager": "HAProxy's manager",
    "haproxy": "HAProxy",
    "ServeController": "controller",
    "raylet/raylet": "raylet",
    "gcs_server": "control store",
}
OTHERS = "others"  # Ray's agents
TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("--way", choices=WAYS, help="measure one, and print it: for the script itself")
    way: str | None = parser.parse_args().way
    if way is not None:
        print(json.dumps(measured(way)))
        return
    results: dict[str, Any] = {"streams": STREAMS, "events_per_second_of_a_stream": PACE, "event_bytes": len(EVENT)}
    results["ways"] = {}
    for each in WAYS:
        settings = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_ENABLE_HA_PROXY": str(int("HAProxy" in each))}
        environment = os.environ | settings
        command = [sys.executable, "-m", __spec__.name, "--way", each]
        for again in (True, True, False):  # on a busy machine Ray may give up its own start
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=not again, env=environment)
            if done.returncode == 0:
                break
        results["ways"][each] = json.loads(done.stdout.splitlines()[-1])
        print(each, json.dumps(results["ways"][each]))
    write_results("proxies", results)


def measured(way: str) -> dict[str, Any]:
    """One way: milliseconds of CPU per 1,000 events by process, and per second when idle."""
    with by_uvicorn() if way == WAYS[0] else by_ray() as (port, replicas):
        until_answered(port)
        idle = {"1": per_second(IDLE)}
        rounds = [busy_round(port, idle["1"]) for _ in range(ROUNDS)]
        if replicas is not None:
            replicas(MANY)
            idle[str(MANY)] = per_second(IDLE)
    return {
        "cpu_milliseconds_per_1000_events": {
            role: statistics.median(each.get(role, 0.0) for each in rounds) for role in rounds[-1]
        },
        "raw": rounds,
        "idle_cpu_milliseconds_per_second": {
            count: {role: round(1000 * spent, 2) for role, spent in roles.items()} for count, roles in idle.items()
        },
    }


def busy_round(port: int, idle: dict[str, float]) -> dict[str, float]:
    """All streams once: milliseconds of CPU per 1,000 events by process."""
    before, began = cpu_seconds(), time.perf_counter()
    events = asyncio.run(all_streams(port))
    seconds, after = time.perf_counter() - began, cpu_seconds()
    busy = {role: after[role] - before.get(role, 0.0) - seconds * idle.get(role, 0.0) for role in after}
    return {role: round(1e6 * spent / events, 1) for role, spent in busy.items()}


@contextlib.contextmanager
def by_uvicorn() -> Iterator[tuple[int, None]]:
    """A server in a process of its own: its port."""
    port = free_port()
    with subprocess.Popen([sys.executable, "-m", "benchmarks.scaling.paced", str(port)]) as process:
        try:
            yield port, None
        finally:
            process.terminate()


@contextlib.contextmanager
def by_ray() -> Iterator[tuple[int, Callable[[int], None]]]:
    """A cluster of one node and a replica: the proxy's port, and what changes the number of replicas."""
    import ray
    from ray import serve

    port = free_port()
    environment = {"env_vars": {"PYTHONPATH": path()}}
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False, runtime_env=environment)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})

        def replicas(count: int) -> None:
            serve.run(deployment(count))

        replicas(1)
        yield port, replicas
    finally:
        serve.shutdown()
        ray.shutdown()


def path() -> str:
    return os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def until_answered(port: int) -> None:
    """Wait until there is an answer to a whole request."""
    for _ in range(200):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as answer:
                if answer.read().endswith(b"[DONE]\n\n"):
                    return
        except OSError:
            time.sleep(0.2)
    raise SystemExit(f"nothing answers on port {port}")


async def all_streams(port: int) -> int:
    """Read all streams at once. Returns how many events came."""
    return sum(await asyncio.gather(*(one_stream(port) for _ in range(STREAMS))))


async def one_stream(port: int) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    events = (await reader.read()).count(b"data: {")
    writer.close()
    assert events == EVENTS, events
    return events


def per_second(seconds: float) -> dict[str, float]:
    """Seconds of CPU that each role takes in a second, while nothing is asked."""
    before = cpu_seconds()
    time.sleep(seconds)
    return {role: (spent - before.get(role, 0.0)) / seconds for role, spent in cpu_seconds().items()}


def cpu_seconds() -> dict[str, float]:
    """Seconds of CPU so far, of this process's descendants, those of each role together."""
    parents, spent, roles = {}, {}, {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            number = int(process.name)
            parents[number], spent[number] = int(fields[1]), (int(fields[11]) + int(fields[12])) / TICKS
            roles[number] = next((role for words, role in ROLES.items() if words in command), OTHERS)
    found: dict[str, float] = {}
    for number, role in roles.items():
        if descends(number, parents):
            found[role] = found.get(role, 0.0) + spent[number]
    return found


def descends(number: int, parents: dict[int, int]) -> bool:
    """Whether a process is this one's child, or a child's, and so on."""
    while (number := parents.get(number, 0)) > 1:
        if number == os.getpid():
            return True
    return False


if __name__ == "__main__":
    main()
