"""How commands show what they have: tables, colours, progress."""

from __future__ import annotations

from .colours import Colours, add_colour, colours_of
from .progress import Progress
from .tables import aligned, bytes_in_words, count_in_words, visible

__all__ = ["Colours", "Progress", "add_colour", "aligned", "bytes_in_words", "colours_of", "count_in_words", "visible"]
