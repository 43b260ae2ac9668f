"""Whether a bundle still computes what it computed when it was exported, and whether batching changes nothing.

Needs no torch: the exporter compares with torch and stores figures and golden logits in verification.json.
"""

from __future__ import annotations

from .checks import Check, check
from .differences import batch_difference, chunk_differences, golden_difference, largest, prompts_difference
from .golden import Golden, largest_tolerance, record_golden
from .stored import GOLDEN, VERIFICATION, Stored, read_stored
from .window import window_to_pass

__all__ = [
    "GOLDEN",
    "VERIFICATION",
    "Check",
    "Golden",
    "Stored",
    "batch_difference",
    "check",
    "chunk_differences",
    "golden_difference",
    "largest",
    "largest_tolerance",
    "prompts_difference",
    "read_stored",
    "record_golden",
    "window_to_pass",
]
