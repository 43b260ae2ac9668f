"""Errors of the exporter; each inherits NeortError, so one ``except`` catches runtime and export alike."""

from __future__ import annotations

from neort.errors import NeortError

__all__ = ["CheckpointError", "ExportError", "VerificationError"]


class CheckpointError(NeortError, ValueError):
    """A checkpoint that is missing, damaged, or of an architecture that the exporter does not build."""


class ExportError(NeortError, RuntimeError):
    """An export that could not be finished: something is in the bundle's place, a text is too short."""


class VerificationError(ExportError):
    """The exported graphs differ from torch by more than the limits; the message holds the figures."""
