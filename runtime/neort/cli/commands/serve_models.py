"""What ``neort serve`` is told about models: which bundles under which names, with which templates and limits."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...bundle import bundled_path
from ...diagnostics import machine_facts
from ...errors import ConfigError
from ...hub import find_bundle, pulled_name
from ...paths import read_regular
from ...wording import shortened
from ..arguments import named

if TYPE_CHECKING:
    from ...server.handlers import Limits
    from ...server.workers import Sources

__all__ = ["bundles_of", "named_file", "sources_of"]

LARGEST_TEMPLATE = 1 << 20
NAME = re.compile(r"[\w.:@/-]{1,200}", re.ASCII)


@dataclass(frozen=True)
class Named:
    """A file or folder, or what a bundle was pulled by, and the name that it was given, if it was."""

    name: str | None
    given: str

    @property
    def path(self) -> Path:
        return Path(self.given)


def bundles_of(args: argparse.Namespace) -> dict[str, Path]:
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


def sources_of(args: argparse.Namespace, bundles: dict[str, Path], workers: int) -> Sources:
    """How each of so many workers loads the models, and what a request may ask of it.

    Each has its part of the memory and of the queue, and slots of its own. Raises ConfigError for a template that
    cannot be read, and where prefixes cannot be in the folder that is to have them.
    """
    from ...server.workers import ModelSource, Sources

    templates, queue, created = _templates(args, bundles), -(-args.max_queue // workers), int(time.time())
    cache = args.max_cache_bytes or _cache_bytes(len(bundles))
    loading = {
        "num_threads": args.num_threads,
        "max_batch_size": args.max_batch_size,
        "max_queue": queue,
        "max_cache_bytes": None if cache is None else max(1, cache // workers),
        "prefix_cache_bytes": None if args.prefix_cache_bytes is None else args.prefix_cache_bytes // workers,
        "kv_cache": args.kv_cache,
        "draft": args.draft,
        "packed_weights": args.packed_weights,
    }
    models = (
        ModelSource(name, path, created, loading, templates.get(name, templates.get(None)))
        for name, path in bundles.items()
    )
    return Sources(tuple(models), _limits(args, queue))


def _limits(args: argparse.Namespace, queue: int) -> Limits:
    """Raises ConfigError where prefixes cannot be in the folder that is to have them."""
    from ...server.handlers import Limits

    if (folder := args.prefix_folder) is not None and not folder.is_dir():
        raise ConfigError(f"prefix folder {folder} is no folder; make it, or name another one by --prefix-folder")
    sequences = min(Limits.max_sequences, args.max_batch_size + queue)  # more at once would never find room
    names = ("max_prompts", "max_choices", "max_tokens", "max_logprobs", "prefix_folder")
    return Limits(
        max_sequences=max(sequences, 1), **{name: value for name in names if (value := getattr(args, name)) is not None}
    )


def _cache_bytes(count: int) -> int | None:
    """Half of the memory that the process may have, shared by so many models; None where nobody knows it."""
    facts = machine_facts()
    known = [size for size in (facts.memory, facts.memory_limit) if size is not None]
    return min(known) // 2 // count if known else None


def named_file(text: str) -> Named:
    """NAME=FILE, or FILE alone, which may hold = if there is such a file."""
    name, equals, path = text.partition("=")
    if equals and name and path and not Path(text).exists():
        return Named(name, path)
    return Named(None, named(text))
