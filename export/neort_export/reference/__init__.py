"""torch's answer, a layer at a time, and what it shows about the activations."""

from __future__ import annotations

from .calibration import ChannelRange, calibrate
from .reference import PartAnswer, Reference

__all__ = ["ChannelRange", "PartAnswer", "Reference", "calibrate"]
