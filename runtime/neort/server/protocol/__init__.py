"""What goes over the wire: fields, requests, answers, errors, and the document that describes them.

Plain values: knows nothing about models, event loops or sockets.
"""

from __future__ import annotations

from .errors import CLIENT_GONE, RequestError, as_request_error, error_body

__all__ = ["CLIENT_GONE", "RequestError", "as_request_error", "error_body"]
