"""What the environment says about connections, in the variables of the hub's own clients."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ..errors import ConfigError
from ..hub import has_host, hub_home
from ..paths import read_regular
from ..wording import shortened

__all__ = ["certificates", "hub_endpoint", "hub_token", "is_offline", "timeouts"]

ENDPOINT = "https://huggingface.co"
WEB = re.compile(r"https?://[^\s/?#@]+(/[^\s?#]*)?", re.ASCII)
TRUE = ("1", "ON", "YES", "TRUE")
LONGEST_TOKEN = 1 << 10
SECONDS = 10


def hub_endpoint() -> str:
    """The hub's address, without a slash at its end: HF_ENDPOINT. Raises ConfigError for one that is none."""
    endpoint = os.environ.get("HF_ENDPOINT") or ENDPOINT
    if WEB.fullmatch(endpoint) is None or not has_host(endpoint):
        raise ConfigError(
            f"HF_ENDPOINT is {shortened(endpoint)}; set it to a hub's address, as {ENDPOINT}, or unset it"
        )
    return endpoint.rstrip("/")


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) forbids connections."""
    return _is_true(os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE"))


def hub_token() -> str | None:
    """The token for the hub: HF_TOKEN, or what `hf auth login` has left in a file.

    None where there is none, and where HF_HUB_DISABLE_IMPLICIT_TOKEN says that none is sent unasked. Raises ConfigError
    for what can be no token.
    """
    if _is_true(os.environ.get("HF_HUB_DISABLE_IMPLICIT_TOKEN")):
        return None
    place, token = "HF_TOKEN", os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN")
    if not token:
        named = os.environ.get("HF_TOKEN_PATH")
        file = Path(os.path.expandvars(os.path.expanduser(named))) if named else hub_home() / "token"
        try:
            place, token = str(file), read_regular(file, LONGEST_TOKEN).decode("utf-8")
        except (OSError, ValueError):
            return None
    token = token.strip()
    if not token:
        return None
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise ConfigError(f"{place} holds what can be no token; correct it, or log in anew with `hf auth login`")
    return token


def timeouts() -> tuple[float, float]:
    """The seconds that an answer and that each part of a file may take: HF_HUB_ETAG_TIMEOUT, HF_HUB_DOWNLOAD_TIMEOUT.

    Raises ConfigError for what is no number of seconds.
    """
    return _seconds("HF_HUB_ETAG_TIMEOUT"), _seconds("HF_HUB_DOWNLOAD_TIMEOUT")


def certificates() -> str | None:
    """The file or folder of certificates that REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names; Python itself heeds
    SSL_CERT_FILE."""
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or None


def _seconds(variable: str) -> float:
    value = os.environ.get(variable) or str(SECONDS)
    if not (value.isascii() and value.isdigit() and 0 < int(value[:9]) <= 86_400):
        raise ConfigError(f"{variable} is {shortened(value)}; set it to seconds, from 1 to 86,400, or unset it")
    return float(value)


def _is_true(value: str | None) -> bool:
    return (value or "").upper() in TRUE
