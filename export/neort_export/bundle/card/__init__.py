"""README.md of a bundle: its model card."""

from __future__ import annotations

from .writing import renew_card, write_card

__all__ = ["renew_card", "write_card"]
