"""``neort serve``: models behind OpenAI's interface over HTTP."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...errors import StorageError
from ...workers import described, shares_here, temporary_folder
from ..arguments import FOLDER, add_kv_cache, add_workers, named, named_path
from ..quantities import count, seconds, size, size_above_zero
from ..streams import Output, ReaderGoneError, tell
from .serve_models import bundles_of, named_file, sources_of

if TYPE_CHECKING:
    from ...server.app import Settings
    from ...server.workers import Sources

__all__ = ["add_parser", "run"]

SLOTS = 64
QUEUE = 512


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "serve",
        help="serve bundles over HTTP, with OpenAI's interface and a page to try them on",
        usage="%(prog)s [-h] [OPTION ...] [BUNDLE | NAME=BUNDLE ...]",
        allow_abbrev=False,
    )
    parser.add_argument("bundles", nargs="*", type=named_file, metavar="BUNDLE", help=f"{FOLDER}; NAME= names it")
    parser.add_argument(
        "-m", "--model", "--bundle", dest="more", action="append", default=[], type=named_file, metavar="BUNDLE",
        help="the same, by a flag",
    )  # fmt: skip
    _add_address(parser)
    _add_models(parser)
    _add_limits(parser)
    parser.set_defaults(run=run, refuse=parser.error)


def _add_address(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("address and access")
    group.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; default: 127.0.0.1, for this machine",
    )
    group.add_argument("--port", type=int, default=8000, metavar="N", help="0 takes a free one; default: 8000")
    group.add_argument("--uds", type=named_path, metavar="PATH", help="listen on a Unix socket instead")
    group.add_argument(
        "--api-key-file", type=named_path, metavar="FILE", help="keys, one a line, of which each request must name one"
    )
    group.add_argument("--insecure", action="store_true", help="let anyone in who reaches the host, without a key")
    group.add_argument(
        "--allowed-host", action="append", default=[], type=named, metavar="NAME",
        help="a further name that requests may call this server by; of use behind a proxy",
    )  # fmt: skip


def _add_models(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("models")
    add_workers(group, "processes that share the port, the weights and the CPUs; default: 1")
    add_kv_cache(group)
    group.add_argument(
        "--num-threads", "--threads", type=int, metavar="N", help="of each model; default: the CPUs of this process"
    )
    group.add_argument(
        "--max-batch-size", type=int, default=SLOTS, metavar="N",
        help=f"most sequences that a model decodes together; default: {SLOTS}",
    )  # fmt: skip
    group.add_argument(
        "--max-queue", type=int, default=QUEUE, metavar="N",
        help=f"sequences that may wait beside those; further ones get status 429; default: {QUEUE}",
    )  # fmt: skip
    group.add_argument(
        "--max-cache-bytes", type=size_above_zero, metavar="SIZE",
        help="memory for keys and values of running sequences, as 8G; default: half of the machine's",
    )  # fmt: skip
    group.add_argument(
        "--prefix-cache-bytes", type=size, metavar="SIZE", help="memory for beginnings of prompts that come again"
    )
    group.add_argument("--draft", metavar="HOW", help="prompt-lookup, or a smaller model's bundle: faster")
    group.add_argument("--packed-weights", metavar="FOLDER", help="keep packed weights there: processes share them")
    group.add_argument(
        "--chat-template", action="append", default=[], type=named_file, metavar="FILE",
        help="Jinja template that makes a text of a chat; NAME=FILE is for one of several models",
    )  # fmt: skip
    group.add_argument(
        "--prefix-folder", type=named_path, metavar="FOLDER", help="where clients may save and load prefixes"
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("limits")
    group.add_argument(
        "--timeout", type=seconds, default=600.0, metavar="SECONDS",
        help="after which a request ends with an error; 0: never; default: 600",
    )  # fmt: skip
    group.add_argument(
        "--shutdown-timeout", type=seconds, default=30.0, metavar="SECONDS",
        help="that running requests have once the server is told to end; default: 30",
    )  # fmt: skip
    group.add_argument(
        "--max-body-bytes", type=size_above_zero, default=4 << 20, metavar="SIZE", help="of a request; default: 4M"
    )
    group.add_argument("--max-connections", type=count, default=1024, metavar="N", help="open at once; default: 1024")
    group.add_argument("--max-prompts", type=count, metavar="N", help="of a request; default: 256")
    group.add_argument("--max-choices", type=count, metavar="N", help="of a prompt, n and best_of; default: 128")
    group.add_argument("--max-tokens", type=count, metavar="N", help="new ones of a choice; default: what fits")
    group.add_argument("--max-logprobs", type=count, metavar="N", help="named in each place; default: 20")


def run(args: argparse.Namespace, output: Output) -> int:
    """Raises what `load` does; ConfigError for an address, keys or a template of no use; MissingExtraError."""
    from ...server.app import listening_socket, serve  # which only this command needs

    bundles = bundles_of(args)
    sources, settings = sources_of(args, bundles, args.workers), _settings(args)

    def ready(address: str) -> None:
        line = f"{address} serves {', '.join(bundles)}"
        try:
            output.line(line)
        except (StorageError, ReaderGoneError):  # nobody looks there: no reason to end
            tell(line)

    with listening_socket(settings) as listening:
        for name, path in bundles.items():
            tell(f"neort serve: loading {name} from {path}")
        if args.workers > 1:
            return _serve_workers(args, sources, settings, listening, ready)
        models = [each.served() for each in sources.models]
        return serve(settings, models, sources.limits, listening=listening, ready=ready)


def _serve_workers(
    args: argparse.Namespace,
    sources: Sources,
    settings: Settings,
    listening: socket.socket,
    ready: Callable[[str], object],
) -> int:
    """Serve by several processes, each with its part of the connections."""
    from ...server.workers import Job, serve_workers

    shares = shares_here(args.workers, args.num_threads)
    tell(f"neort serve: {described(shares)}")
    own = dataclasses.replace(settings, max_connections=-(-settings.max_connections // args.workers))
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(temporary_folder()) if args.packed_weights is None else None
        job = Job(own, sources, folder)
        together = folder is None and args.packed_weights is None
        return serve_workers(job, shares, listening, together=together, ready=ready)


def _settings(args: argparse.Namespace) -> Settings:
    from ...server.app import Keys, Settings

    return Settings(
        host=args.host,
        port=args.port,
        unix_socket=args.uds,
        keys=None if args.api_key_file is None else Keys.from_file(args.api_key_file),
        insecure=args.insecure,
        allowed_hosts=frozenset(name.lower() for name in args.allowed_host),
        timeout=args.timeout or None,
        shutdown_timeout=args.shutdown_timeout,
        max_body_bytes=args.max_body_bytes,
        max_connections=args.max_connections,
    )
