"""A server of the playground and of prepared completions, in the form in which `neort serve` gives them."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from neort.server.playground import CONTENT_SECURITY_POLICY, page_files

__all__ = ["CompletionServer", "Reply", "completed", "done", "error", "event", "refused", "token"]

Alternatives = Mapping[str, float]


def event(document: object) -> bytes:
    """One server-sent event."""
    return f"data: {json.dumps(document, ensure_ascii=False)}\n\n".encode()


def token(
    token: str, logprob: float = -0.1, top: Alternatives | None = None, *, text: str | None = None, reason: str = ""
) -> bytes:
    """The event of a token; ``text`` is the chunk's where it is not the token's own."""
    logprobs = {
        "tokens": [token],
        "token_logprobs": [logprob],
        "top_logprobs": [{token: logprob} if top is None else dict(top)],
        "text_offset": [0],
    }
    choice = {
        "index": 0,
        "text": token if text is None else text,
        "logprobs": logprobs,
        "finish_reason": reason or None,
    }
    return event({"object": "text_completion", "choices": [choice], "usage": None})


def done(tokens: int) -> bytes:
    """The last events of a stream: usage, and the end."""
    usage = {"prompt_tokens": 3, "completion_tokens": tokens, "total_tokens": 3 + tokens}
    return event({"object": "text_completion", "choices": [], "usage": usage}) + b"data: [DONE]\n\n"


def error(message: str, param: str | None = None) -> bytes:
    """The document of an error."""
    return json.dumps({"error": {"message": message, "type": "x", "param": param, "code": None}}).encode()


@dataclass
class Reply:
    """An answer: its body comes in pieces, and breaks off after them unless it is ``whole``."""

    pieces: Iterable[bytes]
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = "text/event-stream"
    whole: bool = True


def completed(tokens: Sequence[str], reason: str = "length") -> Reply:
    """A stream of these tokens and its end."""
    last = len(tokens) - 1
    return Reply(
        [*(token(each, reason=reason if i == last else "") for i, each in enumerate(tokens)), done(len(tokens))]
    )


def refused(status: int, message: str, *, param: str | None = None, retry_after: str | None = None) -> Reply:
    """An error, about a field of the request if ``param`` names one."""
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return Reply([error(message, param)], status, headers, "application/json")


class CompletionServer:
    """Serves the page; ``reply`` makes the answer of a completion of its request. ``requests`` are those so far."""

    def __init__(self) -> None:
        self.files = page_files()
        self.models = ["small", "large"]
        self.key: str | None = None
        self.requests: list[dict[str, Any]] = []
        self.reply: Callable[[dict[str, Any]], Reply] = lambda _: completed([" a", " text"])
        self.left = threading.Event()  # set when a client has gone away during an answer

    def reset(self) -> None:
        """Forget requests, and what a test has changed."""
        files = self.files
        self.__init__()  # type: ignore[misc]
        self.files = files

    @contextlib.contextmanager
    def running(self) -> Iterator[str]:
        """Serve on a free port of this machine; the value is the address of the page."""
        handler = type("Handler", (_Handler,), {"served": self})
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_address[1]}/"
            finally:
                server.shutdown()
                thread.join()

    def _get(self, path: str) -> Reply:
        if path == "/v1/models":
            models = [{"id": name, "object": "model", "created": 0, "owned_by": "neort"} for name in self.models]
            return Reply([json.dumps({"object": "list", "data": models}).encode()], media_type="application/json")
        content, media_type = self.files.get(path[1:] or "index.html", (None, ""))
        if content is None:
            return refused(404, f"there is no {path}")
        return Reply([content], headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY}, media_type=media_type)


class _Handler(BaseHTTPRequestHandler):
    served: CompletionServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._send(self._locked() or self.served._get(self.path))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.served.requests.append(body)
        self._send(self._locked() or self.served.reply(body))

    def _locked(self) -> Reply | None:
        key = self.served.key
        if key is None or not self.path.startswith("/v1/") or self.headers["Authorization"] == f"Bearer {key}":
            return None
        return refused(401, "a key is needed")

    def _send(self, reply: Reply) -> None:
        self.close_connection = True
        self.send_response(reply.status)
        for name, value in {**reply.headers, "Content-Type": reply.media_type, "Transfer-Encoding": "chunked"}.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        try:
            for piece in reply.pieces:
                self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            if reply.whole:
                self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.served.left.set()
