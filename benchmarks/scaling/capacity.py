"""What would a thousand nodes do, what would it cost, and what would be full first? Arithmetic, on measured rates.

    python -m benchmarks.scaling.capacity

Rates are those of results/generate-SHAPE.json (a batch of 8), serving-SHAPE.json (the number of clients with most
tokens per second) and proxies.json (CPU time on the way to a client); the rest is in `benchmarks.scaling.assumptions`.
A node does what its CPUs do at the measured rate, unless reading the weights for it takes more than its memory gives.

Writes results/capacity.json: for each shape and use the tokens per second of a node and dollars per million tokens,
and for each shared part how much of it so many nodes take, and with how many it would be full.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ..harness.arguments import script_parser
from ..harness.results import read_results, write_results
from .assumptions import ASSUMPTIONS

__all__ = ["capacity", "measured_rates"]

SHAPES = ("gpt-neo-125m", "gpt-neo-1.3b")
SYSTEM = "neort int8"
BATCH = 8  # sequences that a job's actors decode together, in the measured rates
WAY = "Ray Serve's proxy"
PROCESSES = ("server", "replica", "proxy", "HAProxy")
HOUR, DAY = 3600.0, 86_400.0


def main() -> None:
    script_parser(__doc__).parse_args()
    rates = {shape: measured_rates(shape) for shape in SHAPES}
    proxies = read_results("proxies")
    if proxies is None:
        raise SystemExit("there is no results/proxies.json; run python -m benchmarks.scaling.proxies first")
    write_results("capacity", capacity(rates, proxies))


def measured_rates(shape: str) -> dict[str, float]:
    """What was measured of a shape. Raises SystemExit where a file is missing."""
    generate, serving, memory = (read_results(f"{kind}-{shape}") for kind in ("generate", "serving", "memory"))
    if generate is None or serving is None or memory is None:
        raise SystemExit(f"results/ lacks generate-, serving- or memory-{shape}.json; benchmarks/README.md says how")
    pair = next(pair for pair in generate["pairs"].values() if SYSTEM in pair["cells"][0]["medians"])
    cell = next(cell["medians"][SYSTEM] for cell in pair["cells"] if cell["batch"] == BATCH)
    return {
        "threads": pair["threads"],
        "prefill": cell["prefill_tokens_per_second"],
        "decode": cell["decode_tokens_per_second"],
        "served": max(cell["tokens_per_second"] for cell in serving["medians"][SYSTEM].values()),
        "served_threads": serving["threads"],
        "weights": memory["systems"][SYSTEM]["weight_bytes"],
    }


def capacity(rates: dict[str, dict[str, float]], proxies: dict[str, Any]) -> dict[str, Any]:
    """Everything that follows from the rates of each shape."""
    nodes = {shape: {"batch": batch_node(each), "serving": serving_node(each)} for shape, each in rates.items()}
    return {
        "assumptions": {name: asdict(each) for name, each in ASSUMPTIONS.items()},
        "measured": rates | {"proxies": proxies["ways"]},
        "uses": {f"{shape}, {use}": uses(node, use) for shape, each in nodes.items() for use, node in each.items()},
        "parts": {
            shape: batch_parts(node["batch"], rates[shape]) | serving_parts(node["serving"], proxies)
            for shape, node in nodes.items()
        },
    }


def value(name: str) -> float:
    return ASSUMPTIONS[name].value


def batch_node(rates: dict[str, float]) -> dict[str, float]:
    """New tokens per second of a node that reads prompts and writes answers, and what bounds them."""
    prompt, answer = value("prompt"), value("answer")
    seconds = prompt / rates["prefill"] + answer / rates["decode"]
    by_cpus = answer / seconds * value("cpus") / rates["threads"]
    steps = answer / BATCH * rates["weights"]  # bytes that are read for an answer: each step for BATCH sequences
    by_memory = answer * value("memory_bandwidth") / steps
    return {"by_cpus": by_cpus, "by_memory": by_memory, "tokens_per_second": min(by_cpus, by_memory)}


def serving_node(rates: dict[str, float]) -> dict[str, float]:
    """New tokens per second of a node that serves; with many slots a step's reading is shared by many sequences."""
    by_cpus = rates["served"] * value("cpus") / rates["served_threads"]
    return {"by_cpus": by_cpus, "tokens_per_second": by_cpus}


def uses(node: dict[str, float], use: str) -> dict[str, float]:
    """Dollars, and days of all nodes for the large job."""
    a_day = node["tokens_per_second"] * value(f"busy_{use}") * DAY
    cost = value("cpus") * 24 / a_day * 1e6
    return node | {
        "dollars_per_million_on_demand": cost * value("on_demand"),
        "dollars_per_million_spot": cost * value("spot"),
        "days": value("tokens") / (a_day * value("nodes")),
    }


def part(load: float, capacity: float) -> dict[str, float]:
    """How much of a shared part all nodes take, and with how many it would be full; ``load`` is theirs together."""
    return {"share": load / capacity, "full_at_nodes": value("nodes") * capacity / load}


def batch_parts(node: dict[str, float], rates: dict[str, float]) -> dict[str, dict[str, float]]:
    """What a job's nodes share, or take of their own."""
    nodes, rate = value("nodes"), node["tokens_per_second"]
    records = rate / value("answer")  # per second and node
    size = (value("prompt") + value("answer")) * value("text") + value("record")
    parts = value("tokens") / value("answer") / value("part_records")
    pulled = nodes * rates["weights"] / value("hub")
    return {
        "batch: memory bandwidth of a node": {"share": node["by_cpus"] / node["by_memory"]},
        "batch: object store of a node": {"share": records * size * value("copies") / value("object_store")},
        "batch: tasks that the driver starts": part(nodes * records / value("part_records"), value("task_starts")),
        "batch: files of the large job in one folder": {"share": parts / value("folder_files")},
        "batch: parts of the large job in the driver's memory": {
            "share": parts * value("part_bytes") / value("driver_memory")
        },
        "start: pulling the bundle from one place": {"seconds": pulled},
    }


def serving_parts(node: dict[str, float], proxies: dict[str, Any]) -> dict[str, dict[str, float]]:
    """What a service's nodes share, or take of their own; an event is a token."""
    nodes, rate = value("nodes"), node["tokens_per_second"]
    way = proxies["ways"][WAY]
    spent = {name: on_the_way(each["cpu_milliseconds_per_1000_events"]) for name, each in proxies["ways"].items()}
    proxy = spent[WAY]["proxy"]
    counts = way["idle_cpu_milliseconds_per_second"]
    few, many = sorted(counts, key=int)
    replicas = nodes * value("cpus") / value("threads_of_a_replica")

    def idle(role: str) -> float:
        """CPUs that a replica takes of a process by being there."""
        return float(max(counts[many][role] - counts[few][role], 0.0) / (int(many) - int(few)) / 1000)

    return {
        **{
            f"serving: CPUs of a node that events take by {name}": {"share": rate * sum(each.values()) / value("cpus")}
            for name, each in spent.items()
        },
        "serving: proxy of each node": {"share": rate * proxy / value("proxy_cpus")},
        "serving: proxy of the head node alone": part(nodes * rate * proxy, value("proxy_cpus")),
        "serving: controller": part(replicas * idle("controller"), value("proxy_cpus")),
        "serving: network of a node": {"share": rate * proxies["event_bytes"] / value("network")},
        "serving: network of the head node alone": part(nodes * rate * proxies["event_bytes"], value("network")),
    }


def on_the_way(milliseconds: dict[str, float]) -> dict[str, float]:
    """CPU seconds of an event by process, of those that it goes through."""
    return {role: milliseconds[role] / 1e6 for role in PROCESSES if role in milliseconds and milliseconds[role] > 0}


if __name__ == "__main__":
    main()
