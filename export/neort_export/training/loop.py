"""The steps of a run: batches, rates, a line of progress now and then, and the file to go on from."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neort.errors import ConfigError

from .corpus import TokenIds, TrainingError, draw_batches
from .model import next_token_loss
from .optimizers import learning_rate_factor, make_optimizers, set_rates
from .options import Options
from .resuming import read_saved, write_saved

if TYPE_CHECKING:
    import torch

__all__ = ["Progress", "fit", "reproducible"]

GRADIENT_NORM = 1.0


def _now() -> float:
    """Seconds on a clock that only counts."""
    return time.monotonic()


@dataclass
class Progress:
    """The losses of a run, and one line now and then: step, loss, tokens per second, time left."""

    tokens_per_step: int
    losses: list[float] = field(default_factory=list)  # nats per token, one per step
    started: float = field(default_factory=_now)
    saved: float = 0.0  # seconds into the run
    _pending: list[torch.Tensor] = field(default_factory=list)
    _printed: float = 0.0

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return _now() - self.started

    @property
    def tokens_per_second(self) -> float:
        """Mean speed of the run so far."""
        return len(self.losses) * self.tokens_per_step / self.elapsed

    @property
    def recent_loss(self) -> float:
        """Mean of the last 50 steps, in nats per token."""
        recent = self.losses[-50:]
        return sum(recent) / len(recent)

    def state(self) -> dict[str, Any]:
        """What a run goes on from: the losses and the seconds that it has had."""
        return {"losses": list(self.losses), "elapsed": self.elapsed}

    def resume(self, state: Mapping[str, Any]) -> int:
        """Go on from a run's state, if it is not empty; returns the number of steps done."""
        if state:
            self.losses = list(state["losses"])
            self.saved = self._printed = state["elapsed"]
            self.started = _now() - self.saved
        return len(self.losses)

    def add(self, loss: torch.Tensor, share_done: float) -> None:
        """Take one step's loss; read it from the device only when it is time for a line."""
        self._pending.append(loss)
        if self.elapsed - self._printed >= (1 if sys.stdout.isatty() else 30):
            self.show(share_done)

    def show(self, share_done: float) -> None:
        """Print the line. Raises TrainingError if a loss was not finite."""
        self.losses += [loss.item() for loss in self._pending]
        self._pending.clear()
        self._printed = self.elapsed
        if not math.isfinite(self.recent_loss):
            raise TrainingError(f"the loss is {self.recent_loss} by step {len(self.losses)}: lower --learning-rate")
        left = self.elapsed * (1 - share_done) / share_done
        line = f"step {len(self.losses)}  loss {self.recent_loss:.3f}  {self.tokens_per_second:,.0f} tokens/s"
        end = "\r" if sys.stdout.isatty() and share_done < 1 else "\n"
        print(f"{line}  {left / 60:.1f} min left   ", end=end, flush=True)


def fit(model: Any, tokens: TokenIds, options: Options, teacher: Any = None) -> Progress:
    """Train the model in place until the steps or the minutes are used up; an unfinished run goes on where it was.

    Raises TrainingError if the loss is not finite, or an unfinished run's file cannot be used.
    """
    optimizers = make_optimizers(model, options)
    progress = Progress(options.batch_size * options.context)
    first = progress.resume(read_saved(options, model, optimizers))
    model.train()
    batches = draw_batches(tokens, options.context, options.batch_size, options.seed, skip=first)
    for step, rows in enumerate(batches, first):
        done = progress.elapsed / (60 * options.minutes) if options.minutes else (step + 0.5) / options.steps
        if step and done >= 1:
            break
        set_rates(optimizers, learning_rate_factor(min(done, 1), options.optimizer))
        progress.add(_step(model, rows, optimizers, teacher), min(done, 1))
        if options.save_every and progress.elapsed - progress.saved >= 60 * options.save_every:
            progress.show(min(done, 1))
            progress.saved = progress.elapsed
            write_saved(options, model, optimizers, progress.state())
    progress.show(1)
    return progress


def _step(model: Any, rows: NDArray[np.int64], optimizers: list[torch.optim.Optimizer], teacher: Any) -> torch.Tensor:
    """Take one step with the rows [B, S + 1]; returns the loss before it."""
    import torch

    device = model.device
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        loss = next_token_loss(model, torch.from_numpy(rows).to(device), teacher)
    model.zero_grad()
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM)
    for optimizer in optimizers:
        optimizer.step()
    return loss.detach()


@contextmanager
def reproducible(options: Options) -> Iterator[torch.device]:
    """Seed torch, set its threads and have it use deterministic kernels; yields the device to train on.

    Raises ConfigError for a device that is not here.
    """
    import torch

    available = torch.cuda.is_available()
    if options.device.startswith("cuda") and not available:
        raise ConfigError(f"--device {options.device}: torch sees no CUDA device here; use --device cpu")
    try:
        device = torch.device(("cuda" if available else "cpu") if options.device == "auto" else options.device)
    except RuntimeError as error:
        raise ConfigError(f"--device {options.device}: unknown; use auto, cpu or cuda") from error
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS repeats its results only with this
    torch.use_deterministic_algorithms(device.type == "cuda")
    torch.set_num_threads(options.threads or threads)
    torch.manual_seed(options.seed)
    try:
        yield device
    finally:
        torch.use_deterministic_algorithms(deterministic)
        torch.set_num_threads(threads)
