"""A GPT-Neo checkpoint in Hugging Face's layout: its configuration, its files and its tensors, read on demand.

Knows file formats and names; knows nothing about graphs, quantization or bundles.
"""

from __future__ import annotations

import io
import json
import math
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from neort.bundle import read_json

from ..errors import CheckpointError
from .finite import first_not_finite

__all__ = ["Checkpoint"]

Rows = NDArray[np.float32]
_FLOATS = ("float32", "float16", "bfloat16")
_SAFETENSORS_NAMES = {"BF": "bfloat", "F": "float", "I": "int", "U": "uint"}


class Checkpoint:
    """Tensors of a ``gpt_neo`` checkpoint by their state-dict names, converted to float32 as they are read.

    ``path`` is the folder, ``config`` transformers' GPTNeoConfig, ``revision`` the hub commit or None.
    """

    def __init__(self, source: str | os.PathLike[str]) -> None:
        """Open a folder, or fetch a hub name such as ``EleutherAI/gpt-neo-125m`` where a network exists.

        Raises CheckpointError when nothing is there, when it is no ``gpt_neo`` model, or when its files do not
        hold the tensors that its configuration asks for.
        """
        self.source = os.fspath(source)
        self.path, self.revision = _locate(self.source)
        self.config = _read_config(self.path)
        self._tensors = _open_tensors(self.path)
        self._check_tensors()

    @property
    def tied(self) -> bool:
        """Whether lm_head shares the token embedding's weights."""
        return bool(self.config.tie_word_embeddings) or not self._has("lm_head.weight")

    @property
    def intermediate_size(self) -> int:
        """Width of the MLP: ``intermediate_size`` of the configuration, or four times the hidden size."""
        return int(self.config.intermediate_size or 4 * self.config.hidden_size)

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return int(self.config.hidden_size // self.config.num_heads)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, without reading it."""
        return self._tensors[self._stored_name(name)].shape

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Rows:
        """Rows ``start:stop`` of a tensor as float32; only these rows are read.

        Raises CheckpointError for NaN and infinite weights, which quantization would turn into ordinary numbers.
        """
        return self._tensors[self._stored_name(name)].read(start, stop)

    def tensor(self, name: str) -> torch.Tensor:
        """A whole tensor as float32."""
        return torch.from_numpy(self.rows(name))

    def expected_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of all tensors that the configuration asks for."""
        c, hidden, inner = self.config, self.config.hidden_size, self.intermediate_size
        shapes: dict[str, tuple[int, ...]] = {
            "transformer.wte.weight": (c.vocab_size, hidden),
            "transformer.wpe.weight": (c.max_position_embeddings, hidden),
        }
        for i in range(c.num_layers):
            block = f"transformer.h.{i}."
            shapes |= {f"{block}{ln}.{part}": (hidden,) for ln in ("ln_1", "ln_2") for part in ("weight", "bias")}
            attention = f"{block}attn.attention."
            shapes |= {f"{attention}{p}_proj.weight": (hidden, hidden) for p in ("q", "k", "v", "out")}
            shapes[f"{attention}out_proj.bias"] = (hidden,)
            shapes |= {f"{block}mlp.c_fc.weight": (inner, hidden), f"{block}mlp.c_fc.bias": (inner,)}
            shapes |= {f"{block}mlp.c_proj.weight": (hidden, inner), f"{block}mlp.c_proj.bias": (hidden,)}
        shapes |= {"transformer.ln_f.weight": (hidden,), "transformer.ln_f.bias": (hidden,)}
        if not self.tied:
            shapes["lm_head.weight"] = (c.vocab_size, hidden)
        return shapes

    def _has(self, name: str) -> bool:
        return name in self._tensors

    def _stored_name(self, name: str) -> str:
        """Name in the files: a tied head is the embedding; a bare GPTNeoModel has no ``transformer.`` prefix."""
        if name == "lm_head.weight" and self.tied:
            name = "transformer.wte.weight"
        return name if self._has(name) else name.removeprefix("transformer.")

    def _check_tensors(self) -> None:
        for name, expected in self.expected_shapes().items():
            stored = self._stored_name(name)
            if not self._has(stored):
                raise CheckpointError(f"{self.path} has no tensor {name!r}; the checkpoint is incomplete")
            if self._tensors[stored].shape != expected:
                raise CheckpointError(
                    f"{self.path}: tensor {name!r} has shape {list(self._tensors[stored].shape)}, but config.json "
                    f"asks for {list(expected)}; use the config.json that belongs to these weights"
                )
            if self._tensors[stored].dtype not in _FLOATS:
                raise CheckpointError(
                    f"{self.path}: tensor {name!r} is {self._tensors[stored].dtype}; "
                    "export reads float32, float16 and bfloat16 checkpoints"
                )


class _StoredTensor:
    """One tensor on disk: its file and name there, shape, dtype and a reader of row ranges."""

    def __init__(
        self,
        file: Path,
        name: str,
        shape: tuple[int, ...],
        dtype: str,
        read: Callable[[int, int | None], torch.Tensor],
    ) -> None:
        self.file, self.name = file, name
        self.shape, self.dtype, self._read = shape, dtype, read

    def read(self, start: int, stop: int | None) -> Rows:
        rows: Rows = self._read(start, stop).to(torch.float32).contiguous().numpy()
        where = first_not_finite(rows, start)
        if where:
            raise CheckpointError(
                f"{self.file}: tensor {self.name!r} has {where}; such weights cannot be exported in any format: fetch "
                "or convert the checkpoint again, or take an earlier one if its training has diverged"
            )
        return rows


def _locate(source: str) -> tuple[Path, str | None]:
    """The folder of a checkpoint, and its commit when it came from the hub."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder.resolve(), None
    if folder.exists() or source.startswith((".", "/", "~")) or source.count("/") > 1 or "\\" in source:
        raise CheckpointError(f"{source} is not a folder; give the folder that holds config.json and the weights")
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*.safetensors", "*.txt"]
    try:
        path = snapshot_download(source, allow_patterns=wanted)
        if not list(Path(path).glob("*.safetensors")):
            path = snapshot_download(source, allow_patterns=[*wanted, "pytorch_model*.bin"])
    except Exception as error:  # hub client, HTTP and socket errors share no base class
        raise CheckpointError(
            f"{source!r} is no folder here, and fetching it from the Hugging Face hub failed "
            f"({type(error).__name__}); download the checkpoint and give its folder"
        ) from error
    return Path(path), Path(path).name


def _read_config(path: Path) -> Any:
    """transformers' GPTNeoConfig of the folder, checked against what the exporter can build."""
    from transformers import GPTNeoConfig

    file = path / "config.json"
    if not file.is_file():
        raise CheckpointError(f"{path} has no config.json; give a Hugging Face checkpoint folder")
    raw = read_json(file, CheckpointError, "fetch the checkpoint again")
    if raw.get("model_type") != "gpt_neo":
        raise CheckpointError(
            f"{path} is a {raw.get('model_type')!r} model; neort exports 'gpt_neo' checkpoints only "
            "(note that GPT-NeoX and GPT-J are other architectures)"
        )
    try:
        config = GPTNeoConfig.from_dict(raw)
    except Exception as error:  # transformers raises several kinds for inconsistent configurations
        raise CheckpointError(f"{file}: {' '.join(str(error).split())}") from error
    _check_config(file, config)
    config._attn_implementation = "eager"  # the reference, and the one that the trace replaces
    return config


def _check_config(file: Path, config: Any) -> None:
    sizes = ("vocab_size", "hidden_size", "num_layers", "num_heads", "max_position_embeddings", "window_size")
    for name in sizes:
        value = getattr(config, name)
        if type(value) is not int or value < 1:
            raise CheckpointError(f"{file}: {name} is {value!r}; it must be a whole number of at least 1")
    if len(config.attention_layers) != config.num_layers:
        raise CheckpointError(
            f"{file}: attention_layers names {len(config.attention_layers)} layers, num_layers is {config.num_layers}"
        )
    unknown = set(config.attention_layers) - {"global", "local"}
    if unknown:
        raise CheckpointError(f"{file}: attention layers are 'global' or 'local', not {sorted(unknown)}")
    if config.hidden_size % config.num_heads:
        raise CheckpointError(
            f"{file}: hidden_size {config.hidden_size} is not a multiple of num_heads {config.num_heads}"
        )
    head_dim = config.hidden_size // config.num_heads
    if head_dim % 8:
        raise CheckpointError(
            f"{file}: head_dim {head_dim} (hidden_size {config.hidden_size} / num_heads {config.num_heads}) is not a "
            "multiple of 8, which onnxruntime's GroupQueryAttention needs; such a checkpoint cannot be exported"
        )


def _open_tensors(path: Path) -> Mapping[str, _StoredTensor]:
    """All tensors of a folder: safetensors, one file or sharded; else torch pickles, weights only."""
    safetensors = _files(path, "model.safetensors")
    if safetensors:
        return {name: t for file in safetensors for name, t in _open_safetensors(file).items()}
    pickles = _files(path, "pytorch_model.bin")
    if pickles:
        return {name: t for file in pickles for name, t in _open_pickle(file).items()}
    raise CheckpointError(f"{path} has neither model.safetensors nor pytorch_model.bin (nor shards of them)")


def _files(path: Path, single: str) -> list[Path]:
    """The weight files of one kind: the single file, or the shards that its index names."""
    if (path / single).is_file():
        return [path / single]
    index = path / f"{single}.index.json"
    if not index.is_file():
        return []
    weight_map = read_json(index, CheckpointError, "fetch the checkpoint again").get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise CheckpointError(f"{index} has no weight_map from tensors to shards; fetch the checkpoint again")
    names = sorted(set(weight_map.values()))
    for name in names:
        if Path(name).name != name:
            raise CheckpointError(f"{index} names the shard {name!r}; shards lie in the checkpoint's own folder")
        if not (path / name).is_file():
            raise CheckpointError(f"{path} lacks the shard {name}, which {index.name} names; fetch it again")
    return [path / name for name in names]


def _open_safetensors(file: Path) -> dict[str, _StoredTensor]:
    """The tensors of a file, read at their offsets: memory-mapped pages would count as this process's memory.

    Format: https://huggingface.co/docs/safetensors (eight bytes of header length, a JSON header, the data). The
    library checks that header and data fit together.
    """
    try:
        with safe_open(str(file), framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} is damaged or truncated ({error}); fetch it again") from error
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
    header.pop("__metadata__", None)
    return {name: _stored_slice(file, name, 8 + length, facts) for name, facts in header.items()}


def _stored_slice(file: Path, name: str, data: int, facts: dict[str, Any]) -> _StoredTensor:
    """One entry of a safetensors header; ``data`` is where the file's data begin."""
    shape, dtype = tuple(facts["shape"]), _dtype_name(facts["dtype"])
    offset = data + facts["data_offsets"][0]

    def read(start: int, stop: int | None) -> torch.Tensor:
        torch_dtype: torch.dtype = getattr(torch, dtype)
        start, stop, _ = slice(start, stop).indices(shape[0])
        width = math.prod(shape[1:])
        stored = np.empty((stop - start) * width * torch_dtype.itemsize, np.uint8)
        with file.open("rb", buffering=0) as stream:
            stream.seek(offset + start * width * torch_dtype.itemsize)
            _fill(stream, stored.data)
        return torch.from_numpy(stored).view(torch_dtype).reshape(stop - start, *shape[1:])

    return _StoredTensor(file, name, shape, dtype, read)


def _fill(stream: io.RawIOBase, buffer: memoryview) -> None:
    """Read until the buffer is full; one read returns 2 GB at most."""
    while buffer:
        count = stream.readinto(buffer)
        if not count:
            raise CheckpointError("a safetensors file became shorter while it was read; fetch it again")
        buffer = buffer[count:]


def _dtype_name(code: str) -> str:
    """The usual name of a safetensors dtype: "BF16" is bfloat16."""
    kind = code.rstrip("0123456789")
    return _SAFETENSORS_NAMES[kind] + code.removeprefix(kind) if kind in _SAFETENSORS_NAMES else code


def _open_pickle(file: Path) -> dict[str, _StoredTensor]:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except Exception as error:  # torch raises RuntimeError, UnpicklingError, EOFError, ...
        raise CheckpointError(
            f"{file} cannot be read by torch's weights-only loader ({type(error).__name__}); "
            "convert the checkpoint to safetensors with a tool that you trust"
        ) from error

    if not isinstance(state, dict):
        raise CheckpointError(f"{file} holds {type(state).__name__}, not a state dict; save the model's state_dict()")

    def stored(name: str, tensor: torch.Tensor) -> _StoredTensor:
        dtype = str(tensor.dtype).removeprefix("torch.")
        return _StoredTensor(file, name, tuple(tensor.shape), dtype, lambda start, stop: tensor[start:stop])

    return {name: stored(name, t) for name, t in state.items() if isinstance(t, torch.Tensor) and t.ndim}
