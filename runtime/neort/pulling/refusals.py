"""What a server or the network says, as one sentence with the remedy."""

from __future__ import annotations

from ..errors import HubError, NeortError
from ..hub import Address, Name, cached_bundle
from ..wording import shortened
from .failures import AskingError, NoAnswerError, StatusError, StrangeAnswerError, host_of

__all__ = ["refusal"]

LOGIN = "log in with `hf auth login`, or set HF_TOKEN"
SHORT = 100


def refusal(error: AskingError, name: Name, endpoint: str) -> HubError:
    """The error of a name that was not pulled; ``endpoint`` is the hub's address."""
    if isinstance(error, StatusError):
        return HubError(_status(error, name, endpoint))
    remedy = ""
    if isinstance(error, StrangeAnswerError):
        own = "" if isinstance(name, Address) else "correct HF_ENDPOINT, or "
        remedy = f"; {own}look whether the network asks for a login"
    elif isinstance(error, NoAnswerError) and error.passes:
        remedy = "; the same command goes on where it ended"
    return HubError(f"{name} was not pulled: {error.why}{remedy}{_in_cache(name)}")


def _in_cache(name: Name) -> str:
    """What serves meanwhile."""
    try:
        cached_bundle(name)
    except NeortError:
        return ""
    return f" (what was pulled before is still there: --model {name} takes it)"


def _status(error: StatusError, name: Name, endpoint: str) -> str:
    headers = {key.lower(): value for key, value in error.headers.items()}
    code, host = headers.get("x-error-code", ""), host_of(error.url)
    if error.status == 429 or error.status >= 500:
        return f"{name} was not pulled: {_busy(error, headers, host)}{_in_cache(name)}"
    if isinstance(name, Address):
        return _folder_status(error.status, name, error.url)
    if not error.url.startswith(f"{endpoint}/"):  # where a large file lies
        return f"{name} was not pulled: {host} answers HTTP {error.status}; the same command goes on where it ended"
    if code == "GatedRepo" or (error.status == 403 and "gated" in code.lower()):
        whose = "use the token of the account that did so (HF_TOKEN)" if error.authorized else LOGIN
        return f"{name} is gated: accept its terms at {endpoint}/{name.repository}, and {whose}"
    if code == "RevisionNotFound":
        return (
            f"{name.repository} has no branch, tag or commit {shortened(name.revision)}; see "
            f"{endpoint}/{name.repository}/tree/main for those that it has"
        )
    if code == "RepoNotFound" or (error.status == 401 and not code and not error.authorized):
        remedy = (
            "set HF_TOKEN to a token that may read it if it is private"
            if error.authorized
            else f"{LOGIN} if it is private"
        )
        return f"{host} shows no repository {name.repository}; correct the name, or {remedy}"
    if error.status == 401:
        return f"{host} does not accept the token in use (HTTP 401); renew it with `hf auth login`, or correct HF_TOKEN"
    message = shortened(headers.get("x-error-message") or "no reason given")
    if error.status == 403:
        return f"{host} forbids {name} to the token in use (HTTP 403: {message}); use one with read access"
    return f"{name} was not pulled: {host} answers HTTP {error.status} ({message}); try again later"


def _busy(error: StatusError, headers: dict[str, str], host: str) -> str:
    if error.status != 429:
        return f"{host} is out of order (HTTP {error.status}); try again later"
    after = headers.get("retry-after", "")
    when = f"in {after} seconds" if after.isdigit() and len(after) < 7 else "in some minutes"
    login = "" if error.authorized else f", or {LOGIN}"
    return f"{host} takes no more requests for now (HTTP 429); try again {when}{login}"


def _folder_status(status: int, name: Address, url: str) -> str:
    file = url.rpartition("/")[2][:SHORT]
    if status in (404, 410):
        return (
            f"{name} hands out no {file} (HTTP {status}); give the address of the folder that holds it, or name one of "
            "the formats in it by --format"
        )
    return f"{name} was not pulled: {host_of(url)} answers HTTP {status} for {file}; ask whoever runs it"
