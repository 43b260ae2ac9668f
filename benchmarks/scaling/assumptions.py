"""What the capacity model takes for granted: everything in it that no file of results/ holds."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ASSUMPTIONS", "Assumption"]


@dataclass(frozen=True)
class Assumption:
    """A number, what it counts, and where it is from."""

    value: float
    unit: str
    what: str
    why: str


ASSUMPTIONS = {
    "nodes": Assumption(1000, "", "nodes", "the question"),
    "tokens": Assumption(1e12, "", "new tokens of the large job", "the question"),
    "cpus": Assumption(32, "CPUs", "of a node", "a common size; two CPUs are the two threads of a core"),
    "memory_bandwidth": Assumption(80e9, "B/s", "that a node's memory is read at", "16 of 96 cores, twelve channels"),
    "network": Assumption(10e9 / 8, "B/s", "of a node's network", "10 Gbit/s"),
    "on_demand": Assumption(0.04, "$", "a CPU for an hour", "the order of lists for x86-64 in 2026"),
    "spot": Assumption(0.015, "$", "the same where it may be taken away", "likewise"),
    "busy_batch": Assumption(0.9, "", "share of time in which a job's nodes compute", "start, end, lost nodes"),
    "busy_serving": Assumption(0.4, "", "share of time in which a service's nodes do", "a day has nights"),
    "prompt": Assumption(256, "tokens", "of a record's prompt", "a page of a book"),
    "answer": Assumption(128, "tokens", "of its answer", "likewise"),
    "text": Assumption(4.5, "B", "of a token's text", "English"),
    "record": Assumption(200, "B", "beside the text of a record", "its id and facts, as JSON"),
    "copies": Assumption(4, "", "times that a record is in the object store", "read, grouped, answered, written"),
    "object_store": Assumption(1e9, "B/s", "that go through a node's object store", "one thread that copies"),
    "part_records": Assumption(256, "records", "of a part of a job, which is a task and a file", "its default"),
    "task_starts": Assumption(1000, "a second", "tasks that one driver starts", "one Python process"),
    "part_bytes": Assumption(100, "B", "that a part takes in the driver's memory", "a name in an Arrow table"),
    "driver_memory": Assumption(64e9, "B", "that the driver has for them", "half of a node's memory"),
    "folder_files": Assumption(1e6, "files", "of a folder", "with more, a listing takes minutes"),
    "hub": Assumption(10e9 / 8, "B/s", "that the place gives which bundles are pulled from", "10 Gbit/s, one machine"),
    "threads_of_a_replica": Assumption(4, "", "threads of a replica", "eight replicas on a node"),
    "proxy_cpus": Assumption(1, "CPU", "that a proxy and the controller each use at most", "one event loop"),
}
