"""README.md of a bundle: its model card."""

from __future__ import annotations

from .figures import common_figures
from .writing import renew_card, write_card

__all__ = ["common_figures", "renew_card", "write_card"]
