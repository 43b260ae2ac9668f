"""A page to try models on in a browser: plain files, which ask no other host for anything."""

from __future__ import annotations

from .page import CONTENT_SECURITY_POLICY, page_files

__all__ = ["CONTENT_SECURITY_POLICY", "page_files"]
