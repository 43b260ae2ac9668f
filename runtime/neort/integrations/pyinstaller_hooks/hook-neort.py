"""The probes of the backend, the page of `neort explain` and that of the server: about 100 kB."""

from __future__ import annotations

from PyInstaller.utils.hooks import collect_data_files

datas = collect_data_files("neort", excludes=["**/ruff.toml", "**/py.typed"])
