"""A server with OpenAI's interface over HTTP: what goes over the wire, what each route does, and the application."""

from __future__ import annotations

__all__: list[str] = []
