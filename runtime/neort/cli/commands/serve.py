"""``neort serve``: models behind OpenAI's interface over HTTP."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...bundle import bundled_path
from ...diagnostics import machine_facts
from ...errors import ConfigError, StorageError
from ...hub import find_bundle, pulled_name
from ...loading import load
from ...paths import read_regular
from ...wording import shortened
from ..arguments import FOLDER, add_kv_cache, named, named_path
from ..streams import Output, ReaderGoneError, tell

if TYPE_CHECKING:
    from ...server.app import Settings
    from ...server.handlers import Limits, ServedModel

__all__ = ["add_parser", "run"]

SLOTS = 64
QUEUE = 512
LARGEST_TEMPLATE = 1 << 20
NAME = re.compile(r"[\w.:@/-]{1,200}", re.ASCII)
SIZE = re.compile(r"(\d+)([KMGT]?)(i?B)?", re.IGNORECASE)
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
LONGEST_TIME = 86_400.0 * 7


@dataclass(frozen=True)
class Named:
    """A file or folder, or what a bundle was pulled by, and the name that it was given, if it was."""

    name: str | None
    given: str

    @property
    def path(self) -> Path:
        return Path(self.given)


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "serve",
        help="serve bundles over HTTP, with OpenAI's interface and a page to try them on",
        usage="%(prog)s [-h] [OPTION ...] [BUNDLE | NAME=BUNDLE ...]",
        allow_abbrev=False,
    )
    parser.add_argument("bundles", nargs="*", type=_named_file, metavar="BUNDLE", help=f"{FOLDER}; NAME= names it")
    parser.add_argument(
        "-m", "--model", "--bundle", dest="more", action="append", default=[], type=_named_file, metavar="BUNDLE",
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
        "--max-cache-bytes", type=_size_above_zero, metavar="SIZE",
        help="memory for keys and values of running sequences, as 8G; default: half of the machine's",
    )  # fmt: skip
    group.add_argument(
        "--prefix-cache-bytes", type=_size, metavar="SIZE", help="memory for beginnings of prompts that come again"
    )
    group.add_argument("--draft", metavar="HOW", help="prompt-lookup, or a smaller model's bundle: faster")
    group.add_argument("--packed-weights", metavar="FOLDER", help="keep packed weights there: processes share them")
    group.add_argument(
        "--chat-template", action="append", default=[], type=_named_file, metavar="FILE",
        help="Jinja template that makes a text of a chat; NAME=FILE is for one of several models",
    )  # fmt: skip
    group.add_argument(
        "--prefix-folder", type=named_path, metavar="FOLDER", help="where clients may save and load prefixes"
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("limits")
    group.add_argument(
        "--timeout", type=_seconds, default=600.0, metavar="SECONDS",
        help="after which a request ends with an error; 0: never; default: 600",
    )  # fmt: skip
    group.add_argument(
        "--shutdown-timeout", type=_seconds, default=30.0, metavar="SECONDS",
        help="that running requests have once the server is told to end; default: 30",
    )  # fmt: skip
    group.add_argument(
        "--max-body-bytes", type=_size_above_zero, default=4 << 20, metavar="SIZE", help="of a request; default: 4M"
    )
    group.add_argument("--max-connections", type=_count, default=1024, metavar="N", help="open at once; default: 1024")
    group.add_argument("--max-prompts", type=_count, metavar="N", help="of a request; default: 256")
    group.add_argument("--max-choices", type=_count, metavar="N", help="of a prompt, n and best_of; default: 128")
    group.add_argument("--max-tokens", type=_count, metavar="N", help="new ones of a choice; default: what fits")
    group.add_argument("--max-logprobs", type=_count, metavar="N", help="named in each place; default: 20")


def run(args: argparse.Namespace, output: Output) -> int:
    """Raises what `load` does; ConfigError for an address, keys or a template of no use; MissingExtraError."""
    from ...server.app import listening_socket, serve  # which only this command needs

    bundles = _bundles(args)
    templates = _templates(args, bundles)
    settings, limits = _settings(args), _limits(args)
    listening = listening_socket(settings)
    with listening:
        models = [_served(name, path, args, templates, len(bundles)) for name, path in bundles.items()]

        def ready(address: str) -> None:
            line = f"{address} serves {', '.join(bundles)}"
            try:
                output.line(line)
            except (StorageError, ReaderGoneError):  # nobody looks there: no reason to end
                tell(line)

        return serve(settings, models, limits, listening=listening, ready=ready)


def _bundles(args: argparse.Namespace) -> dict[str, Path]:
    """The folders by the names that requests know them by."""
    given = [*args.bundles, *args.more] or [Named(None, str(bundled_path()))]
    bundles: dict[str, Path] = {}
    for each in given:
        path = find_bundle(each.given)
        name = each.name or (each.given if pulled_name(each.given) else path.resolve().name)
        if not NAME.fullmatch(name):
            args.refuse(f"{shortened(name)} cannot name a model; write NAME=BUNDLE, of letters, digits and . : @ / _ -")
        if name in bundles:
            args.refuse(f"two bundles are called {name}; give one of them another name by NAME=BUNDLE")
        bundles[name] = path
    return bundles


def _templates(args: argparse.Namespace, names: Collection[str]) -> dict[str | None, str]:
    """Chat templates by the names of models; None is for all others. Raises ConfigError for one that cannot be read."""
    templates: dict[str | None, str] = {}
    for each in args.chat_template:
        if each.name is not None and each.name not in names:
            args.refuse(
                f"--chat-template is for {shortened(each.name)}, which is no model; there are {', '.join(names)}"
            )
        if each.name in templates:
            whose = "all models" if each.name is None else each.name
            args.refuse(f"two chat templates are for {whose}; give one, or NAME=FILE for another model")
        try:
            templates[each.name] = read_regular(each.path, LARGEST_TEMPLATE).decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
            raise ConfigError(f"{each.path} cannot be read ({reason}); give a file with a Jinja template") from None
    return templates


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


def _limits(args: argparse.Namespace) -> Limits:
    """Raises ConfigError where prefixes cannot be in the folder that is to have them."""
    from ...server.handlers import Limits

    if (folder := args.prefix_folder) is not None and not folder.is_dir():
        raise ConfigError(f"prefix folder {folder} is no folder; make it, or name another one by --prefix-folder")
    sequences = min(Limits.max_sequences, args.max_batch_size + args.max_queue)  # more at once would never find room
    names = ("max_prompts", "max_choices", "max_tokens", "max_logprobs", "prefix_folder")
    return Limits(
        max_sequences=max(sequences, 1), **{name: value for name in names if (value := getattr(args, name)) is not None}
    )


def _served(
    name: str, path: Path, args: argparse.Namespace, templates: dict[str | None, str], count: int
) -> ServedModel:
    """Load a model. Raises what `load` does."""
    from ...server.handlers import ServedModel

    tell(f"neort serve: loading {name} from {path}")
    model = load(
        path,
        num_threads=args.num_threads,
        max_batch_size=args.max_batch_size,
        max_queue=args.max_queue,
        max_cache_bytes=args.max_cache_bytes or _cache_bytes(count),
        prefix_cache_bytes=args.prefix_cache_bytes,
        kv_cache=args.kv_cache,
        draft=args.draft,
        packed_weights=args.packed_weights,
    )
    return ServedModel(name, model, int(time.time()), templates.get(name, templates.get(None)))


def _cache_bytes(count: int) -> int | None:
    """Half of the memory that the process may have, shared by so many models; None where nobody knows it."""
    facts = machine_facts()
    known = [size for size in (facts.memory, facts.memory_limit) if size is not None]
    return min(known) // 2 // count if known else None


def _named_file(text: str) -> Named:
    """NAME=FILE, or FILE alone, which may hold = if there is such a file."""
    name, equals, path = text.partition("=")
    if equals and name and path and not Path(text).exists():
        return Named(name, path)
    return Named(None, named(text))


def _size(text: str) -> int:
    found = SIZE.fullmatch(text.strip())
    if found is None:
        raise argparse.ArgumentTypeError(f"{shortened(text)} is no size; write bytes, or 512M, or 8G")
    return int(found[1]) * UNITS[found[2].upper()]


def _size_above_zero(text: str) -> int:
    size = _size(text)
    if size == 0:
        raise argparse.ArgumentTypeError(f"{shortened(text)} leaves no room for anything; write a size, as 512M or 8G")
    return size


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text[:12]) < 1 << 31):
        raise argparse.ArgumentTypeError(f"{shortened(text)} is no count; write a whole number from 1 on")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= LONGEST_TIME:
        raise argparse.ArgumentTypeError(f"{shortened(text)} is no time; write seconds from 0 to {LONGEST_TIME:,.0f}")
    return value
