"""What a machine is, what it can do at most, what a model does on it, and whether that is as it should be."""

from __future__ import annotations

from .findings import Finding, findings
from .instructions import instruction_sets
from .limits import Limits, measured_limits
from .machine import MachineFacts, machine_facts, resident_bytes
from .prediction import Expected, bundle_bytes, expected, expected_rate, fitting_format, known_presets
from .speed import Figure, decode_rate, measured_speed

__all__ = [
    "Expected",
    "Figure",
    "Finding",
    "Limits",
    "MachineFacts",
    "bundle_bytes",
    "decode_rate",
    "expected",
    "expected_rate",
    "findings",
    "fitting_format",
    "instruction_sets",
    "known_presets",
    "machine_facts",
    "measured_limits",
    "measured_speed",
    "resident_bytes",
]
