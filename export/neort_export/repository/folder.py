"""`write_repository`: the folder that a hub repository of bundles is, with a folder for each format."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from neort.bundle import MANIFEST, Bundle
from neort.errors import ConfigError
from neort.files import storage_errors
from neort.hub import HubName, read_name
from neort.wording import shortened

from ..bundle import CARD, check_space
from ..errors import ExportError
from ..staging import staged_folder
from .card import repository_card

__all__ = ["Repository", "write_repository"]

ATTRIBUTES = ".gitattributes"
LFS = "filter=lfs diff=lfs merge=lfs -text"
LARGE = ("*.onnx", "*.data")  # which hold no text, of any size
LARGEST_TEXT = 10 << 20  # bytes, which the hub takes without LFS
GIT = ".git"


@dataclass(frozen=True)
class Repository:
    """A folder that was written; ``sizes`` are the bytes of each format's, ``licensed`` says that its card names a
    licence."""

    path: Path
    name: str
    sizes: dict[str, int]
    licensed: bool

    @property
    def command(self) -> str:
        """The command of the hub's own client that uploads it."""
        return f"hf upload {self.name} {shlex.quote(str(self.path))}"


def write_repository(
    bundles: Sequence[Path], name: str, output: Path | None = None, *, force: bool = False
) -> Repository:
    """Write the folder that the hub repository ``name`` is to be: bundles of one model, one for each format.

    ``output`` None is a folder NAME-hub in the current one. Nothing is uploaded. It appears whole or not at all;
    ``force`` replaces one that was written before, in whichever formats, as its .gitattributes tells.

    Raises BundleError for what is no bundle, or a damaged one; ExportError for bundles of two models or twice in one
    format, and where something is in the folder's place, one of the bundles, say; ConfigError for another name than
    OWNER/NAME; StorageError where it cannot be written.
    """
    wanted = read_name(name) if "@" not in name else None
    if not isinstance(wanted, HubName) or wanted.folder is not None:
        raise ConfigError(f"{shortened(name)} is no name of a repository; give OWNER/NAME, as the hub will have it")
    opened = _by_format(bundles)
    target = output or Path(f"{name.rpartition('/')[2]}-hub")
    _refuse_within(target, opened)
    if force and (target / GIT).exists():
        raise ExportError(f"{target} is a clone of a repository, which --force does not replace; give another name")
    card, licensed = repository_card(opened, name)
    with staged_folder(target, force=force, marker=ATTRIBUTES, remedy="give another place by --output") as partial:
        with storage_errors("the repository's files", target, "make room, or give another place by --output"):
            check_space(partial, sum(sum(bundle.file_sizes.values()) for bundle in opened.values()))
            for form, bundle in opened.items():
                _copy(bundle, partial / form)
            (partial / CARD).write_text(card, encoding="utf-8")
            (partial / ATTRIBUTES).write_text(_attributes(opened), encoding="utf-8")
        for form in opened:
            Bundle(partial / form, check_weights=True)
    return Repository(
        target, name, {form: sum(bundle.file_sizes.values()) for form, bundle in opened.items()}, licensed
    )


def _by_format(bundles: Sequence[Path]) -> dict[str, Bundle]:
    """The bundles by their formats. Raises ExportError for two of one, or of two models."""
    opened: dict[str, Bundle] = {}
    for path in bundles:
        bundle = Bundle(path)
        if (other := opened.get(bundle.quantization)) is not None:
            raise ExportError(f"{other.path} and {path} are both {bundle.quantization}; give one of each format")
        opened[bundle.quantization] = bundle
    first = next(iter(opened.values()))
    for bundle in opened.values():
        if different := _difference(first, bundle):
            raise ExportError(
                f"{first.path} and {bundle.path} are not of one model: their {different} differs; a repository holds "
                "one model in several formats"
            )
    return opened


def _refuse_within(target: Path, bundles: Mapping[str, Bundle]) -> None:
    """Raises ExportError for a bundle that would go with what is at ``target``."""
    for bundle in bundles.values():
        if bundle.path.resolve().is_relative_to(target.expanduser().resolve()):
            raise ExportError(f"{bundle.path} is in {target}, which is to be replaced; give another place by --output")


def _difference(one: Bundle, other: Bundle) -> str | None:
    """What tells two bundles as those of two models."""
    if one.spec != other.spec:
        return "shape"
    if one.manifest.get("source") != other.manifest.get("source"):
        return "checkpoint or its revision"
    tokenizers = [bundle.manifest["files"].get("tokenizer.json", {}).get("sha256") for bundle in (one, other)]
    return "tokenizer" if tokenizers[0] != tokenizers[1] else None


def _copy(bundle: Bundle, folder: Path) -> None:
    folder.mkdir()
    for name in (MANIFEST, *bundle.file_names):
        shutil.copyfile(bundle.path / name, folder / name)


def _attributes(bundles: Mapping[str, Bundle]) -> str:
    """Which files git keeps apart: all that hold no text, and texts that are too large for the hub."""
    texts = [
        f"{form}/{name}"
        for form, bundle in bundles.items()
        for name, size in bundle.file_sizes.items()
        if size > LARGEST_TEXT and Path(name).suffix not in (".onnx", ".data")
    ]
    return "".join(f"{pattern} {LFS}\n" for pattern in [*LARGE, *texts])
