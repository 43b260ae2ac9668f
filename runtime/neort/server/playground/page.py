"""The files of the page, and the policy by which browsers hold it to them."""

from __future__ import annotations

from importlib import resources

__all__ = ["CONTENT_SECURITY_POLICY", "page_files"]

# No script or style in the document itself, nothing of other hosts, no frame around it: text of a model that were
# taken for HTML could do nothing. The icon is a data: address.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_MEDIA_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
}


def page_files() -> dict[str, tuple[bytes, str]]:
    """Return the content and the media type of each file, by its name.

    ``index.html`` belongs at the root of the server, the others beside it under their names: the page finds them, and
    the server's routes, relative to its own address. It is to be sent with `CONTENT_SECURITY_POLICY`.
    """
    files = sorted(resources.files(__package__).joinpath("static").iterdir(), key=lambda file: file.name)
    return {file.name: (file.read_bytes(), _MEDIA_TYPES[file.name.rpartition(".")[2]]) for file in files}
