"""A checkpoint's folder: the one that was named, or the hub's snapshot in the cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from neort.hub import HUB_HOSTS
from neort.wording import shortened

from ...errors import CheckpointError
from ...progress import Progress, Silent
from ..reading import unreadable
from .names import HubName, is_path, read_name
from .parts import Parts

__all__ = ["Located", "locate"]


HOSTS = tuple(f"{host}/" for host in HUB_HOSTS)


@dataclass(frozen=True)
class Located:
    """Where files are; ``name`` and ``commit`` are those of the hub, None for a folder that was named itself."""

    path: Path
    name: HubName | None = None
    commit: str | None = None

    @property
    def label(self) -> str:
        """The name on the hub, or the folder's own."""
        return self.name.repository if self.name else self.path.name


def locate(
    source: str, revision: str | None = None, *, parts: Parts = Parts.MODEL, progress: Progress | None = None
) -> Located:
    """Find the folder of a checkpoint, a tokenizer or an adapter; what the hub has is fetched into its client's cache.

    ``source`` is a folder, or a name on the hub, where @REVISION may follow; a folder comes first.

    Raises CheckpointError for a path that is no folder, for a revision of a folder, and for what cannot be fetched;
    StorageError where the cache's disk has no room for it.
    """
    if not source:
        kind = "checkpoint" if parts is Parts.MODEL else parts.name.lower()
        raise CheckpointError(f"the {kind}'s path is empty; give the folder that holds {parts.described}")
    if (folder := _folder(source)) is not None:
        if revision is not None:
            raise CheckpointError(
                f"{source} is a folder, which has no revision {shortened(revision)}; leave out --revision, or give a "
                "name on the hub"
            )
        return Located(folder)
    if "://" in source or source.startswith(HOSTS):
        raise CheckpointError(
            f"{shortened(source)} is an address; give the name alone, OWNER/NAME or OWNER/NAME@REVISION"
        )
    if is_path(source) or Path(source).exists():
        raise CheckpointError(f"{source} is not a folder; give the folder that holds {parts.described}")
    name = read_name(source, revision)
    from .fetch import fetch

    path, commit = fetch(name, parts, progress or Silent())
    return Located(path, name, commit)


def _folder(source: str) -> Path | None:
    """The folder of that name; None where there is none. Raises CheckpointError where the system does not tell."""
    try:
        folder = Path(source).expanduser()
        return folder.resolve() if folder.is_dir() else None
    except RuntimeError as error:
        raise CheckpointError(
            f"{source} names the home folder of nobody ({error}); give the folder's own path"
        ) from None
    except OSError as error:
        raise unreadable(folder, error) from error
