"""The file beside the output from which an interrupted run goes on, as if nothing had happened."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .corpus import TrainingError
from .options import Options

if TYPE_CHECKING:
    import torch

__all__ = ["Saved", "read_saved", "saved_path", "write_saved"]

Saved = dict[str, Any]
FREE = {"output", "valid", "force", "device", "threads", "save_every"}  # options that may differ from the first part's


def saved_path(options: Options) -> Path:
    """Return the file beside the output folder."""
    return options.output.with_name(f"{options.output.name}.unfinished")


def write_saved(
    options: Options,
    model: Any,
    optimizers: list[torch.optim.Optimizer],
    progress: Mapping[str, Any],
) -> None:
    """Replace the file by this moment's weights, moments, random state and progress."""
    import torch

    path = saved_path(options)
    state = {
        "options": _fixed(options),
        "model": model.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "random": [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [])],
        "progress": dict(progress),
    }
    part = path.with_name(path.name + ".part")
    torch.save(state, part)
    part.replace(path)


def read_saved(options: Options, model: Any, optimizers: list[torch.optim.Optimizer]) -> dict[str, Any]:
    """Restore an unfinished run into the model and its optimizers; returns its progress, empty if there is none.

    Raises TrainingError for a file that is none, or one of a run with other options.
    """
    import torch

    path = saved_path(options)
    if not path.is_file():
        return {}
    try:
        state: Saved = torch.load(path, map_location="cpu", weights_only=True)
        same = state["options"] == _fixed(options)
    except Exception as error:  # torch, pickle and zipfile raise what they like
        raise TrainingError(f"{path} is no unfinished run ({type(error).__name__}): delete it to begin anew") from error
    if not same:
        raise TrainingError(f"{path} is a run with other options: repeat those to go on with it, or delete it")
    model.load_state_dict(state["model"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    here, *devices = state["random"]
    torch.set_rng_state(here)
    if devices and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(devices)
    progress: dict[str, Any] = state["progress"]
    return progress


def _fixed(options: Options) -> str:
    """The options that make the weights what they become, as text."""
    return json.dumps({name: value for name, value in asdict(options).items() if name not in FREE}, default=str)
