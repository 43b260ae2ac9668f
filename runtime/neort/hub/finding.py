"""The folder of a bundle, named by its path or by what it was pulled by: without any connection.

A folder that exists comes first: OWNER/NAME is looked for in the cache where there is nothing at that path.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..bundle import LARGEST_MANIFEST, MANIFEST, MissingBundleError
from ..errors import BundleError
from ..paths import given_path, read_regular
from ..wording import shortened
from .cache import CachedRepository, cached_repository
from .names import Address, HubName, Name, is_folder, read_name

__all__ = ["cached_bundle", "find_bundle", "pulled_name"]

NAMED = 3  # of the files that a bundle lacks


def find_bundle(given: str | os.PathLike[str]) -> Path:
    """The folder that ``given`` names: that path, or for a name what `neort pull` has put into the cache.

    A path is given back whatever is there, with ``~`` written out.

    Raises BundleError for a name that the cache does not hold (then a FileNotFoundError, too), holds in part or in
    several formats, and for what can be no path; ConfigError for an address that is no use; ArgumentTypeError for what
    names nothing.
    """
    name = pulled_name(given)
    return given_path(given, "the bundle", BundleError) if name is None else cached_bundle(name)


def pulled_name(given: str | os.PathLike[str]) -> Name | None:
    """The name that is looked for in the cache; None where ``given`` is a path."""
    name = read_name(given) if isinstance(given, str) else None
    return None if isinstance(name, HubName) and os.path.lexists(given) else name


def cached_bundle(name: Name) -> Path:
    """The folder of a bundle in the cache; raises what `find_bundle` does."""
    cached = cached_repository(name)
    commit = cached.commit_of(name.revision if isinstance(name, HubName) else None)
    folders = [] if commit is None else _bundles(cached.snapshot(commit))
    if commit is None or not folders:
        raise _missing(name, cached)
    folder = cached.snapshot(commit) / _chosen(name, folders, cached.snapshot(commit), cached)
    if lacking := _lacking(folder):
        raise BundleError(
            f"the cache {cached.cache} holds only a part of {name} (without {', '.join(lacking[:NAMED])}); "
            f"`neort pull {name}` fetches the rest"
        )
    return folder


def _bundles(snapshot: Path) -> list[str]:
    """The folders of a snapshot that hold a bundle, by name; the snapshot itself is an empty one."""
    if not snapshot.is_dir():
        return []
    folders = [""] if (snapshot / MANIFEST).is_file() else []
    names = sorted(path.name for path in snapshot.iterdir() if is_folder(path.name))
    return folders + [name for name in names if (snapshot / name / MANIFEST).is_file()]


def _chosen(name: Name, folders: Sequence[str], snapshot: Path, cached: CachedRepository) -> str:
    """The folder that a name means, of those of a snapshot that hold bundles. Raises BundleError where none is it."""
    wanted = name.folder if isinstance(name, HubName) else None
    if wanted in folders or (wanted is None and len(folders) == 1):
        return wanted or folders[0]
    if "" in folders and wanted in (None, _format_of(snapshot)):
        return ""
    if wanted is None:
        names = " or ".join(str(name.within(folder)) for folder in folders)
        raise BundleError(f"{name} is {' and '.join(folders)} in the cache {cached.cache}; give {names}")
    raise _lacks_format(name, cached, folders)


def _missing(name: Name, cached: CachedRepository) -> BundleError:
    """The error for a name that the cache does not hold."""
    where = f"the cache {cached.cache} does not hold it"
    if isinstance(name, Address):
        told = f"{name} was not pulled: {where}; run `neort pull {name}`"
    else:
        others = [each for each in cached.revisions() if each != name.revision]
        at = f", but at {' and '.join(map(shortened, others[:NAMED]))}" if others else ""
        there = f" or {HubName(name.repository, others[0], name.folder)}" if others else ""
        told = (
            f"{name} is no folder here, and {where}{at}; give a bundle's folder{there}, or run `neort pull {name}` (a "
            "checkpoint becomes a bundle by neort-export)"
        )
    return MissingBundleError(told, OSError(errno.ENOENT, os.strerror(errno.ENOENT), str(name)))


def _lacks_format(name: Name, cached: CachedRepository, folders: Sequence[str]) -> BundleError:
    there = " and ".join(filter(None, folders)) or "another format"
    told = f"the cache {cached.cache} holds {name} as {there} only; run `neort pull {name}`"
    return MissingBundleError(told, OSError(errno.ENOENT, os.strerror(errno.ENOENT), str(name)))


def _lacking(folder: Path) -> list[str]:
    """The files that a bundle's manifest lists and its folder lacks; none where it is no manifest, as opening tells."""
    files = _manifest(folder).get("files")
    names = files if isinstance(files, dict) else {}
    return [name for name in names if Path(name).name == name and not (folder / name).is_file()]


def _format_of(folder: Path) -> str | None:
    section = _manifest(folder).get("recipe")
    name = section.get("quantization") if isinstance(section, dict) else None
    return name if isinstance(name, str) else None


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        value = json.loads(read_regular(folder / MANIFEST, LARGEST_MANIFEST))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
