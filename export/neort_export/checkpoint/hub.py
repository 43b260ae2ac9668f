"""Where a checkpoint lies: a folder here, or a name on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from ..errors import CheckpointError
from .reading import unreadable

__all__ = ["locate"]

WANTED = ("*.json", "*.safetensors", "*.txt")


def locate(source: str) -> tuple[Path, str | None]:
    """Return the folder of a checkpoint, and its commit when it came from the hub.

    Raises CheckpointError for a path that is no folder, and for a hub name that cannot be fetched.
    """
    if not source:
        raise CheckpointError("the checkpoint's path is empty; give the folder that holds config.json and the weights")
    try:
        folder = Path(source).expanduser()
        if folder.is_dir():
            return folder.resolve(), None
    except RuntimeError as error:
        raise CheckpointError(
            f"{source} names the home folder of nobody ({error}); give the folder's own path"
        ) from None
    except OSError as error:
        raise unreadable(folder, error) from error
    if folder.exists() or source.startswith((".", "/", "~")) or source.count("/") > 1 or "\\" in source:
        raise CheckpointError(f"{source} is not a folder; give the folder that holds config.json and the weights")
    from huggingface_hub import snapshot_download

    try:
        path = snapshot_download(source, allow_patterns=list(WANTED))
        if not list(Path(path).glob("*.safetensors")):
            path = snapshot_download(source, allow_patterns=[*WANTED, "pytorch_model*.bin"])
    except Exception as error:  # hub client, HTTP and socket errors share no base class
        raise CheckpointError(
            f"{source!r} is no folder here, and fetching it from the Hugging Face hub failed "
            f"({type(error).__name__}); download the checkpoint and give its folder"
        ) from error
    return Path(path), Path(path).name
