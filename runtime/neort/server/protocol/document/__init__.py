"""The OpenAPI document: paths from the table of routes, requests from their fields, answers from their schemas."""

from __future__ import annotations

from .paths import document

__all__ = ["document"]
