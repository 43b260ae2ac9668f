"""What the hub, the network or the disk says, as one sentence with the remedy."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from neort.errors import NeortError, StorageError
from neort.wording import shortened

from ...errors import CheckpointError
from ..reading import said
from .cache import CachedRepository
from .names import HubName

__all__ = ["is_broken", "is_mismatched", "is_missing", "is_unreachable", "refusal"]

CONSISTENCY = "Consistency check failed"  # the client, of a file that ended before its size
OFFLINE = "OfflineModeIsEnabled"
BROKEN = {"ChunkedEncodingError", "ProtocolError", "IncompleteRead", "ReadError", "ReadTimeout", "RemoteProtocolError"}
REFUSED = {"ConnectionError", "ConnectError"}
TIMEOUTS = {"Timeout", "TimeoutException"}
UNREACHABLE = {*REFUSED, "NetworkError", "ProxyError", "JSONDecodeError", *TIMEOUTS, *BROKEN}
FULL = (errno.ENOSPC, errno.EDQUOT)
UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR)
LOGIN = "log in with `hf auth login`, or set HF_TOKEN"
NAMED = 3  # of the files that a snapshot lacks


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _kinds(error: BaseException) -> set[str]:
    """The names of an error's classes and of those that caused it: the client's releases have other HTTP libraries."""
    return {kind.__name__ for each in _chain(error) for kind in type(each).__mro__}


def _response(error: BaseException) -> Any:
    return next((r for each in _chain(error) if (r := getattr(each, "response", None)) is not None), None)


def _status(error: BaseException) -> int:
    """The HTTP status that the hub answered with; 0 where it did not answer."""
    return int(getattr(_response(error), "status_code", 0))


def is_unreachable(error: BaseException) -> bool:
    """Whether the hub could not be asked: offline, no network, or a hub that is down."""
    status = _status(error)
    return status == 429 or status >= 500 or (not status and bool(_kinds(error) & {OFFLINE, *UNREACHABLE}))


def is_broken(error: BaseException) -> bool:
    """Whether a transfer ended before its end."""
    return not _status(error) and bool(_kinds(error) & BROKEN)


def is_mismatched(error: BaseException) -> bool:
    """Whether what had arrived before does not fit the rest of a file."""
    return _status(error) == 416 or CONSISTENCY in str(error)


def is_missing(error: BaseException) -> bool:
    """Whether the hub shows no such repository: to whom has sent no token it answers as if one had been refused."""
    kinds = _kinds(error)
    unknown = "RepositoryNotFoundError" in kinds or (_status(error) == 401 and not _has_token(error))
    return unknown and "GatedRepoError" not in kinds


def refusal(
    error: Exception,
    name: HubName,
    cached: CachedRepository,
    *,
    lacking: Sequence[str] = (),
    is_dataset: bool = False,
) -> NeortError:
    """The error of a repository that was not fetched; ``lacking`` is what its cached snapshot lacks."""
    from huggingface_hub import constants

    if (disk := _disk_error(error, name, cached)) is not None:
        return disk
    kinds, status = _kinds(error), _status(error)
    if "GatedRepoError" in kinds:
        return CheckpointError(
            f"{name} is on the hub, but gated: accept its licence at {_address(name)}, and {_login(error)}"
        )
    if is_missing(error):
        return _missing(error, name, is_dataset)
    if "RevisionNotFoundError" in kinds:
        return CheckpointError(
            f"{name.repository} is on the hub, but has no branch, tag or commit {shortened(name.revision)}; see "
            f"{_address(name)}/tree/main for those that it has (a commit is given with all its 40 digits)"
        )
    if status and not is_unreachable(error):
        return CheckpointError(f"{name} cannot be fetched: {_answer(error, status)}")
    if not kinds & {OFFLINE, *TIMEOUTS} and (kinds & BROKEN or CONSISTENCY in str(error)):
        return CheckpointError(f"the transfer of {name} from {constants.ENDPOINT} broke off; run the command again")
    return CheckpointError(f"{name} is no folder here, {_why(error, status)}{_elsewhere(name, cached, lacking)}")


def _missing(error: BaseException, name: HubName, is_dataset: bool) -> CheckpointError:
    if is_dataset:
        return CheckpointError(f"{name.repository} is a data set on the hub, not a model; give a checkpoint's name")
    where = f"{name.repository} is no folder here, and the hub shows no model of that name"
    if _has_token(error):
        remedy = "set HF_TOKEN to a token that may read it if it is private"
        return CheckpointError(f"{where} to the token in use; correct the name, or {remedy}")
    return CheckpointError(f"{where}; correct the name, or, if it is private (which looks the same), {LOGIN}")


def _answer(error: BaseException, status: int) -> str:
    """What a status means that is no matter of the network."""
    if "DisabledRepoError" in _kinds(error):
        return "its owner or the hub has disabled it; take another checkpoint"
    if status == 401:
        return "the hub does not accept the token in use (HTTP 401); renew it with `hf auth login`, or correct HF_TOKEN"
    if status == 403:
        return f"the hub forbids it to the token in use (HTTP 403: {_server_message(error)}); use one with read access"
    return f"the hub answers HTTP {status} ({_server_message(error)}); try again later, or download it by another way"


def _why(error: BaseException, status: int) -> str:
    """Why the hub could not be asked."""
    from huggingface_hub import constants

    kinds = _kinds(error)
    hub = f"the hub ({constants.ENDPOINT})"
    if OFFLINE in kinds:
        return "HF_HUB_OFFLINE forbids to ask the hub"
    if status == 429:
        wait = str(_response(error).headers.get("Retry-After", ""))
        after = f"in {wait} seconds" if wait.isdigit() and len(wait) < 6 else "in some minutes"
        return f"{hub} takes no more requests for now (HTTP 429; again {after}, or with a token: {LOGIN})"
    if status:
        return f"{hub} is out of order (HTTP {status}; try again later)"
    if "SSLError" in kinds:
        return f"{hub} has no certificate that is trusted here (set REQUESTS_CA_BUNDLE or SSL_CERT_FILE to your own)"
    if kinds & TIMEOUTS:
        seconds = f"{constants.HF_HUB_ETAG_TIMEOUT} and {constants.HF_HUB_DOWNLOAD_TIMEOUT} seconds"
        return f"{hub} did not answer in time ({seconds}; HF_HUB_ETAG_TIMEOUT and HF_HUB_DOWNLOAD_TIMEOUT allow more)"
    if "ProxyError" in kinds or (kinds & REFUSED and _goes_through_proxy(constants.ENDPOINT)):
        return f"{hub} cannot be reached through the proxy (correct HTTPS_PROXY, HTTP_PROXY or NO_PROXY)"
    if "JSONDecodeError" in kinds:
        return f"{hub} answers something else than a hub does (correct HF_ENDPOINT, or log in to the network)"
    if kinds & UNREACHABLE:
        return f"{hub} cannot be reached"
    return f"fetching it from {hub} failed ({type(error).__name__}: {said(error)})"


def _goes_through_proxy(address: str) -> bool:
    parts = urlsplit(address)
    return parts.scheme in getproxies() and not proxy_bypass(parts.hostname or "")


def _elsewhere(name: HubName, cached: CachedRepository, lacking: Sequence[str]) -> str:
    """What the cache has of it, and how to come by it without a network."""
    part = (
        f"holds only a part of it (without {', '.join(map(str, lacking[:NAMED]))})" if lacking else "does not hold it"
    )
    folder = name.repository.rpartition("/")[2]
    return (
        f", and the cache {cached.cache} {part}; on a machine with a network run `{name.download_command}`, copy the "
        f"folder {folder} here and give it"
    )


def _disk_error(error: BaseException, name: HubName, cached: CachedRepository) -> StorageError | None:
    """What the system said about the cache's disk; None where it did not."""
    cause = next((e for e in _chain(error) if isinstance(e, OSError) and e.errno in FULL), None)
    if cause is not None:
        return StorageError(
            f"the disk of the cache {cached.cache} became full while {name} was fetched; free some space there, or set "
            "HF_HOME to a folder on another disk",
            cause,
        )
    cause = next((e for e in _chain(error) if isinstance(e, OSError) and e.errno in UNWRITABLE and e.filename), None)
    if cause is None:  # a socket's error, say, which names no file
        return None
    return StorageError(
        f"the cache {cached.cache} cannot be written ({cause.strerror}: {cause.filename}); let this user write it, or "
        "set HF_HOME to another folder",
        cause,
    )


def _address(name: HubName) -> str:
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{name.repository}"


def _has_token(error: BaseException) -> bool:
    request = getattr(_response(error), "request", None)
    return "authorization" in {str(key).lower() for key in getattr(request, "headers", {})}


def _login(error: BaseException) -> str:
    return "use the token of the account that did so (HF_TOKEN)" if _has_token(error) else LOGIN


def _server_message(error: BaseException) -> str:
    headers = getattr(_response(error), "headers", {})
    message = str(headers.get("X-Error-Message", "")) or "no reason given"
    return shortened(message)
