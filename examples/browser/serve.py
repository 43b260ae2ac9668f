"""Serves this folder and, as its folder bundle, a bundle: on the loopback interface, to browsers on this machine.

    npm ci
    python serve.py [BUNDLE] [--port 8000] [--not-isolated]

Without a bundle it serves the demonstration model that is installed with neort. Any static server does the same once
the bundle lies here as `bundle`; for more than one thread it must send the headers in ISOLATION, too.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BUNDLE = "/bundle/"

# Nothing of other hosts, no script or style in the document itself; WebAssembly is compiled by the page's own files.
# The page's meta element says the same but for frames: workers have only what their own file is sent with.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
ALWAYS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cache-Control": "no-cache",  # files are asked for again, and sent where they have changed
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
# With these a page may share memory between threads: it shares no window with other origins, and has no file of theirs.
ISOLATION = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Handler(SimpleHTTPRequestHandler):
    """Files of the example's folder, and of the bundle."""

    extensions_map = {  # noqa: RUF012 - not what the system says: on Windows that may be text/plain for scripts
        ".html": "text/html; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".mjs": "text/javascript; charset=utf-8",
        ".json": "application/json",
        ".wasm": "application/wasm",
        "": "application/octet-stream",
    }

    def __init__(self, *args: Any, bundle: Path, headers: dict[str, str], **options: Any) -> None:
        self.bundle = bundle
        self.further_headers = headers
        super().__init__(*args, directory=str(HERE), **options)

    def translate_path(self, path: str) -> str:
        """The file that a request's path means."""
        if not path.startswith(BUNDLE):
            return super().translate_path(path)
        return str(self.bundle / Path(super().translate_path(path)).name)  # a bundle has no folders

    def end_headers(self) -> None:
        """Send the headers that every answer has."""
        for name, value in self.further_headers.items():
            self.send_header(name, value)
        super().end_headers()

    def list_directory(self, path: Any) -> None:
        """Refuse: there is nothing to look at."""
        self.send_error(HTTPStatus.NOT_FOUND)

    def copyfile(self, source: Any, outputfile: Any) -> None:
        """Send a file, or as much of it as the browser stays for."""
        with contextlib.suppress(ConnectionError):
            super().copyfile(source, outputfile)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


def serve(bundle: Path, port: int = 0, *, isolated: bool = True) -> ThreadingHTTPServer:
    """Return a server that listens, for `serve_forever`. Port 0 is a free one."""
    headers = ALWAYS | (ISOLATION if isolated else {})
    return ThreadingHTTPServer(("127.0.0.1", port), functools.partial(Handler, bundle=bundle, headers=headers))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", nargs="?", type=Path, help="folder of a bundle (default: the bundled model)")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--not-isolated", action="store_true", help="without the headers that threads need")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if not (HERE / "node_modules").is_dir():
        raise SystemExit(f"{HERE} has no node_modules: run `npm ci` there first.")
    if args.bundle is None:
        from neort.bundle import bundled_path

        args.bundle = bundled_path()
    with (
        serve(args.bundle, args.port, isolated=not args.not_isolated) as server,
        contextlib.suppress(KeyboardInterrupt),
    ):
        print(f"http://127.0.0.1:{server.server_port}/", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
