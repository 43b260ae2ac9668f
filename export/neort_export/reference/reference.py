"""torch's answer, one layer's weights in memory at a time.

The modules are transformers' own; only the order of loading differs from the whole model: embed all tokens, then
carry the activations of the whole text through layer after layer, each loaded, run and dropped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.overrides import TorchFunctionMode

from ..checkpoint import Checkpoint
from ..errors import VerificationError
from ..memory import return_freed

__all__ = ["Hook", "PartAnswer", "Reference"]

Floats = NDArray[np.float32]

HEAD_ROWS = 2048  # vocabulary rows of lm_head in memory at a time
HEAD_TOKENS = 128  # rows of logits in memory at a time


class Hook:
    """Receives the inputs of linear layers; ``observe`` gets the weight's name and the input [..., K]."""

    def observe(self, weight: str, x: torch.Tensor) -> None:
        """Called once per linear layer and sequence."""


@dataclass(frozen=True)
class PartAnswer:
    """What torch computes in one part of the model, the embedding, a layer or the head, from one input.

    ``hidden`` is the input, float32 [T, K], empty for the embedding. ``exact`` is the output in float64, [T, N]; the
    head's is that of the last tokens only. ``rounding`` float64 [N] is the error of torch's float32 by channel: its
    root mean square over tokens, and over the input as it is and with its last bits moved, which shows how much those
    matter. ``nbytes`` counts the weights.
    """

    hidden: Floats
    exact: NDArray[np.float64]
    rounding: NDArray[np.float64]
    nbytes: int = 0


class Reference:
    """The hidden states and logits of a checkpoint, computed by torch in float32."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self._names = checkpoint.architecture.names
        self._layers: dict[tuple[str, float], Any] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of float32 weights that ``hidden_states`` loads, layer by layer."""
        shapes = self.checkpoint.expected_shapes().items()
        return sum(4 * math.prod(shape) for name, shape in shapes if name.startswith(f"{self._names.layers}."))

    def logits(self, sequences: Sequence[Sequence[int]]) -> list[Floats]:
        """Compute the logits float32 [T, V] of every position of each sequence."""
        return [self._head(h) for h in self.hidden_states(sequences)]

    def logit_rows(self, hidden: Sequence[torch.Tensor]) -> Iterator[Floats]:
        """Yield logits of one sequence's positions after the other's, float32 [n, V] with n up to HEAD_TOKENS.

        ``hidden`` is what `hidden_states` returns.
        """
        for states in hidden:
            for start in range(0, len(states), HEAD_TOKENS):
                yield self._head(states[start : start + HEAD_TOKENS])

    @torch.inference_mode()
    def hidden_states(
        self,
        sequences: Sequence[Sequence[int]],
        hook: Hook | None = None,
        progress: Callable[[int], object] = lambda _: None,
        *,
        watched: Sequence[Sequence[int]] = (),
    ) -> list[torch.Tensor]:
        """Compute what lm_head sees: float32 [T, K] for each sequence of token ids.

        ``hook`` watches the inputs of linear layers while the sequences ``watched`` pass through them; each layer is
        loaded once for all sequences. ``progress`` gets the bytes of each layer that was run.
        """
        run = self.checkpoint.architecture.run_layer
        seen, states = ([self._embed(ids) for ids in group] for group in (watched, sequences))
        for i, layer in enumerate(self._loaded_layers()):
            handles = _watch(layer, self._names.layer(i), hook) if hook else []
            seen = [run(layer, x) for x in seen]
            for handle in handles:
                handle.remove()
            states = [run(layer, x) for x in states]
            progress(_bytes_of(layer))
            _unload(layer)
        if hook:
            for x in seen:
                hook.observe(self._names.head, self._final_norm(x)[0])
        return [self._final_norm(x)[0] for x in states]

    @torch.inference_mode()
    def parts(self, token_ids: Sequence[int], *, last: int) -> Iterator[PartAnswer]:
        """Yield the embedding, each layer and the head, each run on torch's own float32 input.

        The head is run for the ``last`` tokens. Raises VerificationError where torch computes NaN or infinite values.
        """
        run = self.checkpoint.architecture.run_layer
        x = self._embed(token_ids)
        yield _answer(np.empty((0, 0), np.float32), [x[0]], self._embed(token_ids, torch.float64)[0])
        for layer in self._loaded_layers():
            nbytes = _bytes_of(layer)
            rounded = [run(layer, inputs)[0] for inputs in (x, _nudged(x))]
            with _InFloat64():
                exact = run(layer.double(), x.double())[0]
            _unload(layer)
            layer.float()
            yield _answer(x[0].numpy(), rounded, exact, nbytes)
            x = rounded[0][None]
        tail = x[:, -last:]
        logits = [torch.from_numpy(self._head(self._final_norm(inputs)[0])) for inputs in (tail, _nudged(tail))]
        exact = torch.from_numpy(self._head(self._final_norm(tail.double())[0]))
        yield _answer(x[0].numpy(), logits, exact)

    def _embed(self, ids: Sequence[int], dtype: torch.dtype = torch.float32) -> torch.Tensor:
        unique, inverse = np.unique(np.asarray(ids, np.int64), return_inverse=True)
        table = self._names.token_embedding
        rows = np.concatenate([self.checkpoint.rows(table, i, i + 1) for i in unique.tolist()])
        positions = self.checkpoint.rows(self._names.position_embedding, 0, len(inverse))
        return (torch.from_numpy(rows[inverse]).to(dtype) + torch.from_numpy(positions))[None]

    def _loaded_layers(self) -> Iterator[Any]:
        names = list(self.checkpoint.expected_shapes())
        for i in range(self.checkpoint.dimensions.num_layers):
            prefix = self._names.layer(i)
            state = {n.removeprefix(prefix): self.checkpoint.tensor(n) for n in names if n.startswith(prefix)}
            layer = self._layer(i)
            layer.load_state_dict(state, strict=True, assign=True)
            del state  # the layer alone holds the weights, until they are unloaded
            yield layer

    def _layer(self, index: int) -> Any:
        """A layer with the attention of layer ``index``; layers that attend alike share one, its weights set anew."""
        source = self.checkpoint
        kind = source.dimensions.attention_layers[index]
        attention = kind, source.architecture.attention_scale(source.config, index)
        if attention not in self._layers:
            self._layers[attention] = source.architecture.layer(source.config, index)
            _unload(self._layers[attention])
        return self._layers[attention]

    def _final_norm(self, x: torch.Tensor) -> torch.Tensor:
        norm = self._names.final_norm
        gamma, beta = (self.checkpoint.tensor(f"{norm}.{part}").to(x.dtype) for part in ("weight", "bias"))
        epsilon = self.checkpoint.architecture.norm_epsilon(self.checkpoint.config)
        return torch.nn.functional.layer_norm(x, gamma.shape, gamma, beta, epsilon)

    @torch.inference_mode()
    def _head(self, hidden: torch.Tensor) -> NDArray[Any]:
        head = self._names.head
        vocabulary = self.checkpoint.shape(head)[0]
        logits = np.empty((len(hidden), vocabulary), hidden.numpy().dtype)
        for start in range(0, vocabulary, HEAD_ROWS):
            rows = torch.from_numpy(self.checkpoint.rows(head, start, min(start + HEAD_ROWS, vocabulary)))
            logits[:, start : start + len(rows)] = (hidden @ rows.T.to(hidden.dtype)).numpy()
        return logits


class _InFloat64(TorchFunctionMode):
    """Attention that converts queries and keys to float32, whatever they are, leaves them float64."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.to:
            args = tuple(torch.float64 if argument is torch.float32 else argument for argument in args)
        return func(*args, **(kwargs or {}))


def _nudged(x: torch.Tensor) -> torch.Tensor:
    """The same numbers with their last bit moved up, down, or not at all; the same ones at every call."""
    moves = torch.randint(-1, 2, x.shape, generator=torch.Generator().manual_seed(0))
    return x * (1 + moves * torch.finfo(x.dtype).eps)


def _answer(hidden: Floats, rounded: Sequence[torch.Tensor], exact: torch.Tensor, nbytes: int = 0) -> PartAnswer:
    """``rounded`` are outputs in float32, [T, N] each."""
    if not all(torch.isfinite(output).all() for output in (*rounded, exact)):
        raise VerificationError("torch computes NaN or infinite values; check the checkpoint's weights")
    errors = [torch.square(output.double() - exact).mean(dim=0) for output in rounded]
    return PartAnswer(hidden, exact.numpy(), torch.stack(errors).mean(dim=0).sqrt().numpy(), nbytes)


def _bytes_of(layer: Any) -> int:
    """Bytes of a layer's float32 weights."""
    return sum(4 * parameter.numel() for parameter in layer.parameters())


def _unload(layer: Any) -> None:
    """Drop a layer's weights; its attention mask stays."""
    for parameter in layer.parameters():
        parameter.data = torch.zeros(()).expand(parameter.shape)
    return_freed()


def _watch(layer: Any, prefix: str, hook: Hook) -> list[Any]:
    def observer(name: str) -> Any:
        return lambda module, args: hook.observe(name, args[0])

    linears = [(n, m) for n, m in layer.named_modules() if isinstance(m, torch.nn.Linear)]
    return [m.register_forward_pre_hook(observer(f"{prefix}{n}.weight")) for n, m in linears]
