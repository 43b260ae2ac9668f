"""Several processes for one command: which CPUs each has, how they are started, and how they end with it."""

from __future__ import annotations

from .child import Parent
from .cpus import shares_here, suited_workers, usable_cpus
from .failures import failure, in_words
from .handover import hand_over, taken_over
from .packing import load_together, temporary_folder
from .placement import Cpu, Share, described
from .process import Worker, ending_in_words

__all__ = [
    "Cpu",
    "Parent",
    "Share",
    "Worker",
    "described",
    "ending_in_words",
    "failure",
    "hand_over",
    "in_words",
    "load_together",
    "shares_here",
    "suited_workers",
    "taken_over",
    "temporary_folder",
    "usable_cpus",
]
