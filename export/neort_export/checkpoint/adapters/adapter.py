"""An adapter's files, and what they make of a checkpoint's tensors.

Every tensor of an adapter is a factor of a targeted module, or stands in the place of one of the model's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from neort.bundle import sha256_of
from neort.wording import shortened

from ...architectures import Architecture, Dimensions
from ...errors import CheckpointError
from ..reading import has_file
from ..tensors import StoredTensor, open_pickle, open_safetensors
from .config import CONFIG, MERGE, AdapterConfig
from .factors import Factors, collected

__all__ = ["Adapter"]

PREFIX = "base_model.model."
FILES = {"adapter_model.safetensors": open_safetensors, "adapter_model.bin": open_pickle}
OWN_BASE = f"give the adapter's own base model and {CONFIG}"
INSIDE = (".base_layer.", ".modules_to_save.")


class Adapter:
    """A LoRA adapter in peft's files; ``file`` holds its tensors, ``name`` is how people call it."""

    def __init__(self, folder: Path, architecture: Architecture, dimensions: Dimensions, *, name: str) -> None:
        """Open a folder. Raises CheckpointError for what cannot be merged exactly as peft does, by its kind."""
        self.path, self.name = folder, name
        self._names = architecture.names
        self._linears = architecture.linear_weights(dimensions)
        self._shapes = architecture.shapes(dimensions, tied=False)
        self._config = AdapterConfig.read(_with_config(self.path))
        self.file, tensors = _open(self.path)
        factors, others = collected(tensors, PREFIX)
        self._check_targets(factors)
        self._factors = {module: self._factors_of(module, each) for module, each in factors.items()}
        self._replaced = {self._parameter(name): tensor for name, tensor in others.items()}
        self._check_saved()

    def sha256(self) -> str:
        """Hash the file that holds the tensors."""
        return sha256_of(self.file)

    def merged(self, parameters: Mapping[str, StoredTensor], *, tied: bool) -> tuple[dict[str, StoredTensor], bool]:
        """Return the tensors of all parameters with the adapter merged in, and whether head and embedding are one yet.

        ``tied`` says whether they are in the base model. Rows are merged as they are read.

        Raises CheckpointError for tensors of other shapes than the base model's, for biases of layers that have none,
        and where peft itself does not merge what it has trained.
        """
        result = {**parameters, **{name: self._in_place(name, parameters[name]) for name in self._replaced}}
        if tied:
            self._check_tied()
            tied = self._stay_tied(result)
        for module, factors in self._factors.items():
            weight, bias = f"{module}.weight", f"{module}.bias"
            result[weight] = factors.added_to(result[weight])
            added = factors.added_to_bias(result.get(bias))
            if added is not None:
                result[bias] = added
        return result, tied

    def _factors_of(self, module: str, tensors: Mapping[str, StoredTensor]) -> Factors:
        rank, scaling = self._config.rank(module), self._config.scaling(module)
        return Factors.of(self.file, module, tensors, self._shapes[f"{module}.weight"], rank, scaling)

    def _in_place(self, name: str, base: StoredTensor) -> StoredTensor:
        """The adapter's own tensor of a parameter. Raises CheckpointError where its shape is another."""
        linear, tensor = self._linears.get(name), self._replaced[name]
        result = tensor.transposed() if linear and linear.transposed else tensor
        if result.shape != base.shape:
            resized = "train it without resize_token_embeddings(), or give a base model and config.json saved after it"
            remedy = resized if name in (self._names.token_embedding, self._names.head) else OWN_BASE
            raise CheckpointError(
                f"{self.file}: {shortened(tensor.name)} has shape {list(tensor.shape)}, the base model's "
                f"{result.as_in_file(base.shape)}; {remedy}"
            )
        result.check_dtype()
        return result

    def _parameter(self, name: str) -> str:
        """The model's parameter in whose place a tensor stands. Raises CheckpointError where there is none."""
        parameter = name.removeprefix(PREFIX)
        for inside in INSIDE:
            parameter = parameter.replace(inside, ".")
        if not name.startswith(PREFIX) or parameter not in self._shapes:
            raise CheckpointError(
                f"{self.file} holds {shortened(name)}, which the model has no place for; give the adapter's own base "
                f"model, or {MERGE}"
            )
        return parameter

    def _check_targets(self, factors: Iterable[str]) -> None:
        """Raises CheckpointError where the modules with factors are others than adapter_config.json says."""
        linears = {name.removesuffix(".weight") for name in self._linears}
        others = (self._names.token_embedding, self._names.position_embedding, self._names.head)
        modules = linears | {name.removesuffix(".weight") for name in others}
        targeted = self._config.targeted(modules, linears, factors)
        lacking, beyond = sorted(targeted.difference(factors)), sorted(set(factors) - targeted)
        if beyond:
            raise CheckpointError(
                f"{self.file} has factors of {shortened(beyond[0])}, which {CONFIG} does not target in this model; "
                f"{OWN_BASE}"
            )
        if lacking:
            raise CheckpointError(
                f"{self.file} has no factors of {shortened(lacking[0])}, which {CONFIG} targets; fetch it again"
            )

    def _check_saved(self) -> None:
        """Raises CheckpointError where a module that was trained as a whole has no tensors."""
        for parameter in self._shapes:
            if self._config.saves(parameter.rpartition(".")[0]) and parameter not in self._replaced:
                raise CheckpointError(
                    f"{self.file} has no tensor of {parameter!r}, which modules_to_save in {CONFIG} says was trained "
                    "as a whole; fetch the adapter again, or save it again with peft"
                )

    def _check_tied(self) -> None:
        """Raises CheckpointError for factors of a matrix that is head and embedding at once.

        peft changes one of them while it trains, and both when it merges.
        """
        for weight in (self._names.token_embedding, self._names.head):
            if weight.removesuffix(".weight") in self._factors:
                raise CheckpointError(
                    f"{self.file} has factors of {weight.removesuffix('.weight')!r}, but in the base model lm_head is "
                    "the token embedding (tie_word_embeddings): peft changes one of them while it trains and both when "
                    "it merges, so there is no one model; train the adapter on a base model with tie_word_embeddings "
                    "false"
                )

    def _stay_tied(self, result: dict[str, StoredTensor]) -> bool:
        """Whether head and embedding, one in the base model, still are; they get the adapter's tensor then."""
        head, embedding = self._names.head, self._names.token_embedding
        saved = [n for n in (head, embedding) if n in self._replaced and self._config.saves(n.removesuffix(".weight"))]
        if saved:
            return False
        own = [name for name in (embedding, head) if name in self._replaced]
        if len(own) == 2 and not self._replaced[head].equals(self._replaced[embedding]):
            raise CheckpointError(
                f"{self.file} has other numbers for {head!r} than for {embedding!r}, which are one matrix in the base "
                f"model (tie_word_embeddings), and {CONFIG} has neither in modules_to_save; save the adapter again"
            )
        if own:
            result[embedding] = result[head] = result[own[0]]
        return True


def _with_config(folder: Path) -> Path:
    """The folder. Raises CheckpointError where it is none, or holds no adapter."""
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder} is not a folder; give the one with {CONFIG}: an adapter of the hub is fetched with "
            "hf download NAME --local-dir FOLDER"
        )
    if not has_file(folder / CONFIG):
        inner = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))
        hint = f"; it has the folder {shortened(inner[0])}, which has one" if inner else ""
        raise CheckpointError(f"{folder} has no {CONFIG}; give a folder that peft's save_pretrained() wrote{hint}")
    return folder


def _open(folder: Path) -> tuple[Path, dict[str, StoredTensor]]:
    for name, opened in FILES.items():
        if has_file(folder / name):
            return folder / name, opened(folder / name)
    raise CheckpointError(f"{folder} has neither {' nor '.join(FILES)}; fetch the adapter again")
