"""Names on the hub: ``NAME``, or ``NAME@REVISION``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from neort import hub
from neort.wording import shortened

from ...errors import CheckpointError
from ..reading import said

__all__ = ["HubName", "is_path", "read_name"]


@dataclass(frozen=True)
class HubName(hub.HubName):
    """A repository of the hub, and the branch, tag or commit; None is the default branch."""

    @property
    def download_command(self) -> str:
        """The command that fetches the repository into a folder, on a machine that has a network."""
        revision = "" if self.revision is None else f" --revision {self.revision}"
        return f"hf download {self.repository}{revision} --local-dir {self.repository.rpartition('/')[2]}"


def is_path(source: str) -> bool:
    """Whether a text can only be a path, and no name on the hub."""
    name = source.partition("@")[0]
    return source.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in source


def read_name(source: str, revision: str | None) -> HubName:
    """The name on the hub that ``source`` is, NAME or NAME@REVISION, with ``revision`` where that was given apart.

    Raises CheckpointError for names and revisions that the hub cannot have, and for two revisions.
    """
    name, at, own = source.partition("@")
    if at and name and Path(name).is_dir():
        raise CheckpointError(
            f"{name} is a folder here, and folders have no revision {shortened(own)}; leave out @{own}, or start from "
            "another folder to have the hub's"
        )
    if at and not own:
        raise CheckpointError(
            f"{shortened(source)} ends after the @; name a branch, tag or commit there, or leave it out"
        )
    if at and revision is not None and own != revision:
        raise CheckpointError(
            f"{shortened(source)} has the revision {shortened(own)}, and --revision is {shortened(revision)}; give one"
        )
    _check_name(name)
    chosen = own if at else revision
    if chosen is not None:
        _check_revision(chosen)
    return HubName(name, chosen)


def _check_name(name: str) -> None:
    """Raises CheckpointError for what is no repository's name."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise CheckpointError(
            f"{shortened(name)} is no folder here, and no name that the hub can have ({said(error)}); give the "
            "checkpoint's folder, or its name as OWNER/NAME"
        ) from None


def _check_revision(revision: str) -> None:
    """Raises CheckpointError for what is no branch's, tag's or commit's name."""
    if not hub.is_revision(revision):
        raise CheckpointError(
            f"{shortened(revision)} is no name of a branch, tag or commit; give one that the repository has, "
            "or leave it out for the newest"
        )
