"""The bundled model. `--exclude-module neort_models` leaves it out of a program that brings a bundle of its own."""

from __future__ import annotations

from PyInstaller.utils.hooks import collect_data_files

datas = collect_data_files("neort_models", excludes=["**/ruff.toml", "**/py.typed"])
