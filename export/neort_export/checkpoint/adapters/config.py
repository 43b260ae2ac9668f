"""adapter_config.json: which LoRA it is, which modules it changes, and how much.

peft is the reference: https://huggingface.co/docs/peft/package_reference/lora
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neort.wording import shortened

from ...errors import CheckpointError
from ..reading import read_object

__all__ = ["CONFIG", "AdapterConfig"]

CONFIG = "adapter_config.json"
MERGE = "merge it with peft (model.merge_and_unload().save_pretrained(FOLDER)) and export that folder"
KEPT = (  # what does not change what an adapter computes once it is trained, or is read here
    "alpha_pattern",
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "fan_in_fan_out",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_alpha",
    "lora_bias",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "modules_to_save",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "rank_pattern",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "use_rslora",
)
QUOTES = "'"
PROMPTS = (
    "ADAPTION_PROMPT",
    "CARTRIDGE",
    "CPT",
    "MULTITASK_PROMPT_TUNING",
    "P_TUNING",
    "PREFIX_TUNING",
    "PROMPT_TUNING",
)
BESIDE_THE_BASE = (True, False, None, "gaussian", "eva", "orthogonal")  # of init_lora_weights: the base stays as it is


def _is_words(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _are_modules(value: object) -> bool:
    return value is None or isinstance(value, str) or _is_words(value)


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _is_count(value: object) -> bool:
    return type(value) is int and 1 <= value <= 1 << 20


def _is_pattern_of(sound: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: (
        value is None or (isinstance(value, dict) and all(isinstance(k, str) and sound(v) for k, v in value.items()))
    )


KINDS: dict[str, tuple[Any, str, Callable[[object], bool]]] = {  # default, what is allowed, the test
    "r": (8, "a whole number of at least 1", _is_count),
    "lora_alpha": (8, "a number", _is_number),
    "use_rslora": (False, "true or false", lambda value: type(value) is bool),
    "rank_pattern": ({}, "an object of whole numbers by module", _is_pattern_of(_is_count)),
    "alpha_pattern": ({}, "an object of numbers by module", _is_pattern_of(_is_number)),
    "target_modules": (None, "a list of modules or a pattern", _are_modules),
    "exclude_modules": (None, "a list of modules or a pattern", _are_modules),
    "modules_to_save": (None, "null or a list of modules", lambda value: value is None or _is_words(value)),
    "layers_to_transform": (
        None,
        "null, a layer's number or a list of them",
        lambda v: v is None or all(type(each) is int for each in (v if isinstance(v, list) else [v])),
    ),
    "layers_pattern": (None, "null, a name or a list of names", _are_modules),
}


@dataclass(frozen=True)
class AdapterConfig:
    """The settings of a LoRA adapter that `KINDS` lists, checked, by peft's names."""

    file: Path
    settings: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> AdapterConfig:
        """Read the file of a folder. Raises CheckpointError for adapters that are not merged here, by their kind."""
        file = folder / CONFIG
        settings = read_object(file)
        _check_kind(file, settings)
        found = {}
        for name, (default, wanted, sound) in KINDS.items():
            found[name] = settings.get(name, default)
            if not sound(found[name]):
                raise CheckpointError(f"{file}: {name} is {shortened(found[name])}; it must be {wanted}")
        return cls(file, found)

    def rank(self, module: str) -> int:
        """Return the rank of a module's factors."""
        rank: int = self._of("rank_pattern", module, self.settings["r"])
        return rank

    def scaling(self, module: str) -> float:
        """Return what the product of a module's factors is multiplied by."""
        alpha, rank = self._of("alpha_pattern", module, self.settings["lora_alpha"]), self.rank(module)
        return float(alpha / (math.sqrt(rank) if self.settings["use_rslora"] else rank))

    def saves(self, module: str) -> bool:
        """Say whether a module was trained as a whole."""
        return any(self._matches(rf"(^|.*\.){each}($|\..*)", module) for each in self.settings["modules_to_save"] or ())

    def targeted(self, modules: Iterable[str], linears: Iterable[str], factors: Iterable[str]) -> set[str]:
        """Return those of the ``modules`` that have factors.

        ``linears`` are the linear layers without the head, ``factors`` what counts where nothing is targeted by name.
        """
        target = self.settings["target_modules"]
        if target is None:
            return set(factors).intersection(modules)
        if isinstance(target, str) and target.lower() == "all-linear":
            target = list(linears)
        return {module for module in modules if not self._excludes(module) and self._targets(target, module)}

    def _excludes(self, module: str) -> bool:
        excluded = self.settings["exclude_modules"] or ()
        if isinstance(excluded, str):
            return self._matches(excluded, module, whole=True) or self.saves(module)
        return _is_named(module, excluded) or self.saves(module)

    def _targets(self, target: str | list[str], module: str) -> bool:
        if isinstance(target, str):
            return self._matches(target, module, whole=True)
        return _is_named(module, target) and self._has_layer(module)

    def _has_layer(self, module: str) -> bool:
        """Whether the layer that a module is in is one of those to be changed."""
        layers, patterns = self.settings["layers_to_transform"], self.settings["layers_pattern"]
        if layers is None or layers == []:
            return True
        named = [patterns] if isinstance(patterns, str) and patterns else patterns
        before = [rf"(?:^|.*?\.){each}" for each in named] if named else [r".*?\.[^.]*"]
        found = (self._match(rf"{each}\.(?P<layer>\d+)\.", module) for each in before)
        layer = next((int(match["layer"]) for match in found if match), None)
        return layer in (layers if isinstance(layers, list) else [layers])

    def _of(self, name: str, module: str, default: Any) -> Any:
        """A setting of one module; the first pattern that fits counts."""
        patterns = self.settings[name] or {}
        return next((value for key, value in patterns.items() if self._matches(rf"(.*\.)?({key})$", module)), default)

    def _matches(self, pattern: str, module: str, *, whole: bool = False) -> bool:
        return self._match(pattern, module, whole=whole) is not None

    def _match(self, pattern: str, module: str, *, whole: bool = False) -> re.Match[str] | None:
        try:
            return (re.fullmatch if whole else re.match)(pattern, module)
        except (re.error, RecursionError, OverflowError) as error:
            raise CheckpointError(
                f"{self.file}: {shortened(pattern)} is no pattern of names ({error}); correct it there"
            ) from None


def _is_named(module: str, names: Iterable[str]) -> bool:
    return any(module == name or module.endswith(f".{name}") for name in names)


def _check_kind(file: Path, settings: Mapping[str, Any]) -> None:
    """Raises CheckpointError for what is no plain LoRA."""
    kind = settings.get("peft_type")
    if kind != "LORA":
        if isinstance(kind, str) and kind in PROMPTS:
            raise CheckpointError(
                f"{file}: peft_type is {shortened(kind)}, which is no change of weights, so it cannot be merged into "
                "them; neort merges LoRA adapters only"
            )
        raise CheckpointError(f"{file}: peft_type is {shortened(kind)}; neort merges LoRA adapters only: {MERGE}")
    task = settings.get("task_type")
    if task not in (None, "CAUSAL_LM"):
        raise CheckpointError(
            f"{file}: task_type is {shortened(task)}; neort exports language models, whose adapters have CAUSAL_LM"
        )
    beyond = next((name for name, value in settings.items() if value and name not in KEPT), None)
    if beyond is not None:
        raise CheckpointError(
            f"{file}: {shortened(beyond).strip(QUOTES)} is {shortened(settings[beyond])}, a kind of LoRA that neort "
            f"does not merge; {MERGE}"
        )
    initial = settings.get("init_lora_weights", True)
    if not any(initial is each or (isinstance(initial, str) and initial == each) for each in BESIDE_THE_BASE):
        raise CheckpointError(
            f"{file}: init_lora_weights is {shortened(initial)}, which changes the base model's weights, too; save the "
            "adapter with path_initial_model_for_weight_conversion, which makes a plain LoRA of it, or " + MERGE
        )
