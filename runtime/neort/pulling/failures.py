"""What a server or the network does instead of answering, as exceptions that a pull turns into one sentence."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Mapping
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from ..wording import shortened

__all__ = ["AskingError", "NoAnswerError", "StatusError", "StrangeAnswerError", "failure_of", "host_of"]


class AskingError(Exception):
    """Something that keeps a file from arriving; ``url`` is what was asked for."""

    def __init__(self, why: str, url: str) -> None:
        """``why`` is the part of a sentence after the name of what is pulled: "HOST cannot be reached", say."""
        super().__init__(why)
        self.why, self.url = why, url


class NoAnswerError(AskingError):
    """Nobody answered, or not to the end.

    ``passes`` says that it may be otherwise in a moment, ``tried`` that several were waited for already.
    """

    def __init__(self, why: str, url: str, *, passes: bool) -> None:
        super().__init__(why, url)
        self.passes, self.tried = passes, False


class StrangeAnswerError(AskingError):
    """An answer that is none to what was asked."""


class StatusError(AskingError):
    """An HTTP status that is not what was asked for; ``authorized`` says that a token was sent."""

    def __init__(self, status: int, headers: Mapping[str, str], url: str, *, authorized: bool) -> None:
        super().__init__(f"{host_of(url)} answers HTTP {status}", url)
        self.status, self.headers, self.authorized = status, headers, authorized


def host_of(url: str) -> str:
    """The host and port of an address."""
    try:
        return urlsplit(url).netloc.rpartition("@")[2] or shortened(url)
    except ValueError:
        return shortened(url)


def failure_of(error: Exception, url: str) -> NoAnswerError:
    """What an error of the sockets, of TLS or of HTTP means."""
    cause = error.reason if isinstance(error, URLError) and isinstance(error.reason, Exception) else error
    host = host_of(url)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return NoAnswerError(
            f"{host} has no certificate that is trusted here ({cause.verify_message}); set SSL_CERT_FILE to the "
            "certificates of whoever runs it",
            url,
            passes=False,
        )
    if isinstance(cause, TimeoutError):
        return NoAnswerError(
            f"{host} did not answer in time; HF_HUB_ETAG_TIMEOUT and HF_HUB_DOWNLOAD_TIMEOUT allow more seconds",
            url,
            passes=True,
        )
    if isinstance(cause, socket.gaierror):
        return NoAnswerError(f"{_reach(host, url)} ({cause.strerror or 'its name is not known'})", url, passes=False)
    if isinstance(cause, ConnectionRefusedError):
        return NoAnswerError(f"{_reach(host, url)} (it refuses connections)", url, passes=False)
    if isinstance(cause, (http.client.HTTPException, ConnectionError, ssl.SSLError)):
        told = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
        return NoAnswerError(f"the connection to {host} broke off ({shortened(told)})", url, passes=True)
    told = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return NoAnswerError(f"{_reach(host, url)} ({shortened(told)})", url, passes=False)


def _reach(host: str, url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme in getproxies() and not proxy_bypass(parts.netloc):
        return f"{host} cannot be reached through the proxy that HTTPS_PROXY or HTTP_PROXY names"
    return f"{host} cannot be reached"
