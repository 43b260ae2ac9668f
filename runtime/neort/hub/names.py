"""Names of bundles that are pulled: of a repository on a hub, or the address of a folder.

    OWNER/NAME[/FORMAT][@REVISION]    FORMAT is a folder of the repository, REVISION a branch, tag or commit
    https://HOST/PATH                 a folder that holds manifest.json and the files beside it

Knows what they may consist of; knows nothing about disks and connections.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..errors import ConfigError
from ..wording import shortened

__all__ = [
    "Address",
    "HubName",
    "Name",
    "has_host",
    "is_commit",
    "is_folder",
    "is_revision",
    "read_name",
    "required_name",
]

PART = r"\w(?:[\w.-]{0,94}\w)?"  # of a path on the hub
HUB_NAME = re.compile(rf"({PART}/{PART})(?:/({PART}))?(?:@(.*))?", re.ASCII)
FOLDER = re.compile(PART, re.ASCII)
REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+/=#-]{0,199}")  # as git has them, without what a path would obey
COMMIT = re.compile("[0-9a-f]{40}")
ADDRESS = re.compile(r"(https?)://([\w.-]+|\[[0-9a-f:]+\])(:\d{1,5})?(/[\w.~%!$&'()*+,;=:/-]*)?", re.ASCII)
LOOPBACK = re.compile(r"localhost|127(\.\d{1,3}){3}|\[::1\]")
LONGEST_ADDRESS = 1000
HUB_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")
FORM = "OWNER/NAME, OWNER/NAME@REVISION, or the https address of a bundle's folder"


@dataclass(frozen=True)
class HubName:
    """A repository on a hub, the branch, tag or commit, and the folder in it; None is the default branch, and any."""

    repository: str
    revision: str | None = None
    folder: str | None = None

    def __str__(self) -> str:
        folder = "" if self.folder is None else f"/{self.folder}"
        return f"{self.repository}{folder}" if self.revision is None else f"{self.repository}{folder}@{self.revision}"

    @property
    def is_commit(self) -> bool:
        """Whether the revision is a whole commit, which never changes."""
        return self.revision is not None and is_commit(self.revision)

    def within(self, folder: str) -> HubName:
        """The name of one of the repository's folders."""
        return dataclasses.replace(self, folder=folder)


@dataclass(frozen=True)
class Address:
    """The address of a folder that a web server hands out, without a slash at its end."""

    url: str

    def __str__(self) -> str:
        return self.url

    @property
    def key(self) -> str:
        """A name for it that any file system takes, and no other address has."""
        host = re.sub(r"[^\w.-]", "_", urlsplit(self.url).netloc)
        return f"folders--{host[:100]}--{hashlib.sha256(self.url.encode()).hexdigest()[:16]}"

    def within(self, folder: str) -> Address:
        """The address of a folder in this one."""
        return Address(f"{self.url}/{folder}")


Name = HubName | Address


def is_commit(text: str) -> bool:
    """Whether a text is a whole commit's name, all its 40 digits."""
    return COMMIT.fullmatch(text) is not None


def is_revision(text: str) -> bool:
    """Whether a branch, tag or commit can be called so."""
    parts = text.split("/")
    return bool(REVISION.fullmatch(text)) and not any(p.startswith(".") or ".." in p or not p for p in parts)


def is_folder(text: str) -> bool:
    """Whether a folder that holds a bundle within a repository can be called so."""
    return FOLDER.fullmatch(text) is not None and ".." not in text


def has_host(url: str) -> bool:
    """Whether the host and the port that an address names can be any."""
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def read_name(text: str) -> Name | None:
    """The name that a text is; None for what can only be a path. Raises ConfigError for addresses that are no use."""
    if "://" in text:
        return _address(text)
    found = HUB_NAME.fullmatch(text)
    if found is None:
        return None
    repository, folder, revision = found.groups()
    if any(sign in text.partition("@")[0] for sign in ("--", "..")) or repository.endswith(".git"):
        return None
    if revision is not None and not is_revision(revision):
        return None
    return HubName(repository, revision, folder)


def required_name(text: str) -> Name:
    """The name that a text must be. Raises ConfigError for any other text."""
    host = text.partition("/")[0]
    name = read_name(f"https://{text}" if host in HUB_HOSTS else text)
    if name is not None:
        return name
    raise ConfigError(f"{shortened(text)} names nothing that can be pulled; give {FORM}")


def _address(text: str) -> Address:
    """Raises ConfigError for what is no folder's address, for one that holds secrets, and for one that anyone on the
    way can answer."""
    found = ADDRESS.fullmatch(text) if len(text) <= LONGEST_ADDRESS else None
    if found is None or ".." in text or not has_host(text):
        hint = "leave out what follows ?, # or a user's name" if re.search("[?#@]", text) else "https://HOST/FOLDER"
        raise ConfigError(f"{shortened(text)} is no address of a bundle's folder; {hint}")
    scheme, host, port, path = found.groups()
    host = host.lower()
    if host in HUB_HOSTS:
        raise ConfigError(f"{shortened(text)} is an address of the hub; give the name alone, OWNER/NAME")
    if scheme == "http" and not LOOPBACK.fullmatch(host):
        raise ConfigError(
            f"{shortened(text)} is not encrypted, so anyone on the way could answer with another model; give an https "
            "address"
        )
    port = "" if port == {"https": ":443", "http": ":80"}[scheme] else port or ""
    folder = re.sub("/+", "/", path or "").removesuffix("/manifest.json").rstrip("/")
    return Address(f"{scheme}://{host}{port}{folder}")
