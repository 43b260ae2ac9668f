"""What a model thought of each token: its probability and rank, what it would rather have said; and a page of it."""

from __future__ import annotations

from .page import html_page
from .tokens import Alternative, ExplainedToken, explain, perplexity

__all__ = ["Alternative", "ExplainedToken", "explain", "html_page", "perplexity"]
