"""Asks web servers: redirections, proxies, certificates, tokens and patience. Knows nothing about bundles.

The token goes to the origin that it belongs to and to no other, wherever that one redirects to. What is encrypted stays
so, and nothing but the web is asked: a redirection to a file, say, is refused.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import os
import re
import ssl
import string
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import cast
from urllib.error import URLError
from urllib.parse import quote, urldefrag, urljoin, urlsplit
from urllib.request import AbstractHTTPHandler, HTTPHandler, OpenerDirector, ProxyHandler, Request, UnknownHandler

from ..errors import ConfigError, NeortError
from ..wording import shortened
from .environment import certificates
from .failures import NoAnswerError, StatusError, StrangeAnswerError, failure_of, host_of

__all__ = ["Answer", "Client"]

REDIRECTIONS = {301, 302, 303, 307, 308}
BUSY = {429, 500, 502, 503, 504}
MOST_REDIRECTIONS = 10
PAUSES = (1.0, 2.0, 4.0)  # seconds between tries, unless the server asks for more
LONGEST_PAUSE = 300.0
RESET = re.compile(r"\bt\s*=\s*(\d{1,6})")  # of the header RateLimit: seconds until it takes requests again
PAGE = "text/html"
ERRORS = (URLError, OSError, http.client.HTTPException, ValueError)  # ValueError: hosts and headers that cannot be


@dataclass
class Answer:
    """An answer whose body has not been read yet; ``headers`` are those of all hops at the first origin, in small
    letters.

    ``location`` is where the file is, when that is at another origin and was not to be followed there.
    """

    url: str
    status: int
    headers: dict[str, str]
    response: http.client.HTTPResponse
    location: str | None = None

    @property
    def length(self) -> int | None:
        """The bytes of the body, as the server announces them."""
        value = self.response.headers.get("Content-Length", "")
        return int(value) if value.isascii() and value.isdigit() and len(value) < 20 else None

    @property
    def is_page(self) -> bool:
        """Whether it is a page for people."""
        return self.response.headers.get("Content-Type", "").lower().startswith(PAGE)

    def part(self, most: int) -> bytes:
        """What has come of the body, at least a byte; empty at its end. Raises NoAnswerError where it breaks off.

        It does not wait for ``most`` bytes: what has come is not lost when the connection breaks.
        """
        try:
            return self.response.read1(most)
        except ERRORS as error:
            raise failure_of(error, self.url) from error

    def read(self, limit: int) -> bytes:
        """The body. Raises NoAnswerError where it breaks off, StrangeAnswerError beyond ``limit`` bytes."""
        try:
            content = self.response.read(limit + 1)
        except ERRORS as error:
            raise failure_of(error, self.url) from error
        if len(content) > limit:
            raise StrangeAnswerError(f"{host_of(self.url)} answers with more than {limit:,} bytes", self.url)
        if self.length is not None and len(content) < self.length:
            raise NoAnswerError(f"the connection to {host_of(self.url)} broke off", self.url, passes=True)
        return content


class Client:
    """Asks servers, with a token for one origin."""

    def __init__(
        self,
        agent: str,
        *,
        token: str | None = None,
        origin: str | None = None,
        wait: Callable[[float], None] = time.sleep,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        """``agent`` is what the client calls itself; ``token`` is for the origin of the address ``origin``."""
        self._agent, self._token = agent, token
        self._origin = _origin_of(origin) if origin else None
        self._wait, self._tell = wait, tell
        self._opener = OpenerDirector()
        for handler in (ProxyHandler(), HTTPHandler(), _Encrypted(), UnknownHandler()):
            self._opener.add_handler(handler)

    @contextlib.contextmanager
    def open(self, url: str, *, timeout: float, start: int = 0, leave: bool = True) -> Iterator[Answer]:
        """Ask for an address, from byte ``start`` on; yields the answer of the last hop, whose status is 200 or 206.

        Without ``leave`` a redirection to another origin is not followed but told, as the answer's ``location``.

        Raises NoAnswerError, StrangeAnswerError and StatusError.
        """
        first, headers = _origin_of(url), dict[str, str]()
        for _ in range(MOST_REDIRECTIONS):
            with contextlib.closing(self._ask(url, start, timeout)) as response:
                if _origin_of(url) == first:
                    headers |= {name.lower(): value for name, value in response.headers.items()}
                if response.status in REDIRECTIONS:
                    target = _target(url, response)
                    if leave or _origin_of(target) == first:
                        url = target
                        continue
                    yield Answer(url, response.status, headers, response, target)
                    return
                if response.status not in (200, 206):
                    found = dict(response.headers.items())
                    raise StatusError(response.status, found, url, authorized=self._authorization(url) != {})
                yield Answer(url, response.status, headers, response)
                return
        raise StrangeAnswerError(
            f"{host_of(url)} redirects more than {MOST_REDIRECTIONS} times, in a circle perhaps", url
        )

    def read(self, url: str, limit: int, *, timeout: float) -> tuple[bytes, Answer]:
        """The body of an answer, of at most ``limit`` bytes, and the answer; raises what `open` does."""
        for pause in (*PAUSES, None):
            with self.open(url, timeout=timeout) as answer:
                try:
                    return answer.read(limit), answer
                except NoAnswerError:
                    if pause is None:
                        raise
            self._wait(pause)
        raise AssertionError("the last try ends the loop")

    def _ask(self, url: str, start: int, timeout: float) -> http.client.HTTPResponse:
        """The answer to one request, after some patience with a server that is busy."""
        headers = {"User-Agent": self._agent, "Accept-Encoding": "identity", **self._authorization(url)}
        if start:
            headers["Range"] = f"bytes={start}-"
        for pause in (*PAUSES, None):
            asked = 0.0
            try:
                response = cast(
                    http.client.HTTPResponse, self._opener.open(Request(url, headers=headers), timeout=timeout)
                )
            except NeortError:
                raise
            except ERRORS as error:
                failure = failure_of(error, url)
                if pause is None or not failure.passes:
                    failure.tried = True
                    raise failure from error
            else:
                if response.status not in BUSY:
                    return response
                asked = _asked_pause(response)
                response.close()
                if pause is None or asked > LONGEST_PAUSE:
                    authorized = self._authorization(url) != {}
                    raise StatusError(response.status, dict(response.headers.items()), url, authorized=authorized)
                if asked:
                    self._tell(f"{host_of(url)} takes no requests for {asked:g} seconds (HTTP {response.status})")
            self._wait(max(pause, asked))
        raise AssertionError("the last try ends the loop")

    def _authorization(self, url: str) -> dict[str, str]:
        mine = self._token is not None and _origin_of(url) == self._origin
        return {"Authorization": f"Bearer {self._token}"} if mine else {}


class _Encrypted(AbstractHTTPHandler):
    """Connections with certificates, which take a tenth of a second to read: at the first one."""

    https_request = AbstractHTTPHandler.do_request_

    @functools.cached_property
    def _certificates(self) -> ssl.SSLContext:
        return _context()

    def https_open(self, request: Request) -> http.client.HTTPResponse:
        return self.do_open(http.client.HTTPSConnection, request, context=self._certificates)


def _target(url: str, response: http.client.HTTPResponse) -> str:
    """Where an answer redirects to. Raises StrangeAnswerError for what is nowhere, or not to be trusted."""
    given = response.headers.get("Location")
    host = host_of(url)
    if not given:
        raise StrangeAnswerError(f"{host} redirects without saying where to", url)
    target = urldefrag(urljoin(url, quote(given.encode("latin-1", "replace"), safe=string.punctuation))).url
    try:
        parts = urlsplit(target)
        place = f"{parts.scheme}://{parts.hostname or ''}"
        sound = bool(parts.hostname) and parts.username is None and (parts.port or 1) > 0
    except ValueError:
        sound, place = False, shortened(given)
    if not sound or parts.scheme not in ("http", "https"):
        raise StrangeAnswerError(f"{host} redirects to {place}, which is no place on the web", url)
    if url.startswith("https:") and parts.scheme != "https":
        raise StrangeAnswerError(f"{host} redirects to {place}, which is not encrypted", url)
    return target


def _origin_of(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _asked_pause(response: http.client.HTTPResponse) -> float:
    """The seconds that a busy server asks to wait; 0 where it does not."""
    after = response.headers.get("Retry-After", "").strip()
    if after.isascii() and after.isdigit():
        return float(after[:9])
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, (parsedate_to_datetime(after).astimezone(UTC) - datetime.now(UTC)).total_seconds())
    reset = RESET.search(response.headers.get("RateLimit", "")) if response.status == 429 else None
    return float(reset[1]) if reset else 0.0


def _context() -> ssl.SSLContext:
    """Which certificates are trusted: the system's, or certifi's where Python finds none; and the environment's own.

    Raises ConfigError for a file of certificates that cannot be read.
    """
    context = ssl.create_default_context()
    system = ssl.get_default_verify_paths()
    if system.cafile is None and system.capath is None and not context.cert_store_stats()["x509_ca"]:
        with contextlib.suppress(ImportError):
            import certifi

            context.load_verify_locations(certifi.where())
    if (own := certificates()) is not None:
        try:
            context.load_verify_locations(*((None, own) if os.path.isdir(own) else (own, None)))
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"the certificates that REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names, {shortened(own)}, cannot be read "
                f"({error.strerror or error}); correct it, or unset it"
            ) from None
    return context
