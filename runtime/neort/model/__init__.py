"""A loaded model: what it is put together from, and what can be done with it, a subject in each module."""

from __future__ import annotations

from .model import Model

__all__ = ["Model"]
