"""POST /v1/prefixes: prefixes saved to a folder that was named at start, and loaded from there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...errors import PrefixError, StorageError
from ...kvcache import Prefix
from ..protocol import RequestError
from ..protocol.requests import PrefixRequest
from .contract import ServedModel
from .generating import ids_of

__all__ = ["Prefixes"]


class Prefixes:
    """The prefixes of a folder, of which some are held in memory. Its methods block: call them in a thread."""

    def __init__(self, folder: Path | None, most: int) -> None:
        """``most`` are held at once; ``folder`` None refuses all."""
        self._folder, self._most = folder, most
        self._held: dict[tuple[str, str], Prefix] = {}

    def act(self, request: PrefixRequest, served: ServedModel) -> dict[str, Any]:
        """Do what a request says, and return the answer's body. Raises RequestError and what `Model.prefix` does."""
        if self._folder is None:
            raise RequestError(
                404, "no folder for prefixes was named when the server was started; name one there", code="no_folder"
            )
        actions: dict[str, Callable[[PrefixRequest, ServedModel, Path], Prefix]] = {
            "save": self._save,
            "load": self._load,
            "release": self._release,
        }
        if (request.prompt is None) == (request.action == "save"):
            told = "needs" if request.action == "save" else "takes no"
            raise RequestError(400, f"the action {request.action} {told} prompt", param="prompt")
        file = self._folder / request.filename
        if file.is_symlink():
            raise RequestError(400, f"{request.filename} leads out of the folder for prefixes", param="filename")
        try:
            prefix = actions[request.action](request, served, file)
        except (PrefixError, StorageError) as error:
            if isinstance(error, FileNotFoundError):
                message = f"there is no prefix {request.filename}; save it first, by the action save"
                raise RequestError(404, message, param="filename") from None
            status = 400 if isinstance(error, PrefixError) else 507
            message = str(error).replace(str(file), request.filename).replace(str(self._folder), "the folder")
            raise RequestError(status, message, param="filename") from None
        return {
            "object": "prefix",
            "action": request.action,
            "filename": request.filename,
            "model": served.name,
            "tokens": len(prefix),
            "held_bytes": prefix.nbytes,
            "held": (served.name, request.filename) in self._held,
        }

    def close(self) -> None:
        """Let go of all."""
        while self._held:
            self._held.popitem()[1].close()

    def _save(self, request: PrefixRequest, served: ServedModel, file: Path) -> Prefix:
        model = served.model
        if isinstance(request.prompt, str):
            ids = [*model.tokenizer.prefix_ids, *ids_of(request.prompt, model, special=False)]
        else:
            ids = ids_of(request.prompt, model)
        with model.prefix(ids) as prefix:
            prefix.save(file)
            return prefix

    def _load(self, request: PrefixRequest, served: ServedModel, file: Path) -> Prefix:
        key = served.name, request.filename
        if key not in self._held and len(self._held) >= self._most:
            raise RequestError(
                429, f"{len(self._held)} prefixes are held, as many as may; release one", headers={"Retry-After": "1"}
            )
        prefix = served.model.load_prefix(file)
        if (before := self._held.get(key)) is not None:
            before.close()
        self._held[key] = prefix
        return prefix

    def _release(self, request: PrefixRequest, served: ServedModel, file: Path) -> Prefix:
        prefix = self._held.pop((served.name, request.filename), None)
        if prefix is None:
            raise RequestError(404, f"{request.filename} is not held; load it first", param="filename")
        prefix.close()
        return prefix
