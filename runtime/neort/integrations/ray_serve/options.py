"""The arguments of a Ray Serve deployment, as a command line or a file gives them. Knows nothing about Ray."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

from ...errors import ArgumentTypeError, ConfigError
from ...wording import shortened

__all__ = ["ServeOptions"]

WORDS = {"true": True, "false": False}
KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
LEAST = {"prefix_cache_bytes": 0, "max_queue": 0, "timeout": 0, "upscale_delay": 0, "downscale_delay": 0}


@dataclass(frozen=True)
class ServeOptions:
    """What may be said about a deployment; times are in seconds, paths are those of each node.

    Attributes:
        bundle: its folder, or the name that it was pulled by on each node; None: the demonstration model.
        name: what requests call the model; None: the name that it was pulled by, or the folder's.
        num_threads: of each replica, and the CPUs that Ray keeps for it.
        replicas: how many there are, or how few where there may be more.
        max_replicas: as many as there may be when requests come; None: no more than ``replicas``.
        target_ongoing_requests: of each replica, beyond which there are more; None: half of ``max_batch_size``.
        upscale_delay: that requests must stay many before a replica is added.
        downscale_delay: that they must stay few before one is taken away.
        max_batch_size: most sequences that a replica decodes together.
        max_queue: sequences that wait beside those; further ones get status 429.
        max_cache_bytes: for keys and values of a replica's running sequences; None: half of the node's memory, in the
            proportion of the replica's threads to its CPUs.
        prefix_cache_bytes: for beginnings of prompts that come again, as `neort.load` has it.
        kv_cache: "fp32" or "int8".
        draft: "prompt-lookup", or a smaller model's bundle.
        packed_weights: a folder by which a node's replicas share their weights.
        chat_template: a file with a Jinja template that makes a text of a chat.
        max_tokens: new ones of a choice; None: what fits.
        api_key_file: a file with keys, of which each request must name one.
        insecure: let anyone in who reaches Ray's proxies.
        timeout: after which a request ends with an error; 0: never.
        shutdown_timeout: that running requests have where a replica is to end; beyond it they are broken off.
        release: has no effect; another one than before has Ray replace the replicas, one after the other.
    """

    bundle: str | None = None
    name: str | None = None
    num_threads: int = 2
    replicas: int = 1
    max_replicas: int | None = None
    target_ongoing_requests: float | None = None
    upscale_delay: float = 30.0
    downscale_delay: float = 600.0
    max_batch_size: int = 64
    max_queue: int = 512
    max_cache_bytes: int | None = None
    prefix_cache_bytes: int | None = None
    kv_cache: str = "fp32"
    draft: str | None = None
    packed_weights: str | None = None
    chat_template: str | None = None
    max_tokens: int | None = None
    api_key_file: str | None = None
    insecure: bool = False
    timeout: float = 600.0
    shutdown_timeout: float = 605.0
    release: str = ""

    def __post_init__(self) -> None:
        """Raises ConfigError for values that are out of range or contradict others."""
        for field in dataclasses.fields(self):
            value, least = getattr(self, field.name), LEAST.get(field.name, 1)
            if type(value) is int and value < least:
                raise ConfigError(f"{field.name} is {value}; it must be {least} at least")
            if type(value) is float and not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"{field.name} is {value}; it must be a number from 0 on")
        if self.target_ongoing_requests == 0:
            raise ConfigError("target_ongoing_requests is 0; it must be more than 0")
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ConfigError(
                f"max_replicas is {self.max_replicas} and replicas is {self.replicas}, the fewest that there are; "
                "give more of the former or fewer of the latter"
            )
        if self.api_key_file is None and not self.insecure:
            raise ConfigError(
                "there are no keys, and a replica does not know who reaches Ray's proxies; give api_key_file=FILE, or "
                "insecure=true to let anyone in who does"
            )

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> ServeOptions:
        """The options of arguments, whose values are texts where a command line gives them.

        Raises ArgumentTypeError for names that there are not and values of another type, ConfigError as above.
        """
        kinds = {name: _kind(hint) for name, hint in get_type_hints(cls).items()}
        for name in given:
            if name not in kinds:
                raise ArgumentTypeError(f"there is no argument {shortened(name)}; there are {', '.join(kinds)}")
        return cls(**{name: _value(name, value, kinds[name]) for name, value in given.items() if value is not None})

    @property
    def target(self) -> float:
        """Ongoing requests of a replica, beyond which there are to be more replicas."""
        given = self.target_ongoing_requests
        return max(self.max_batch_size / 2, 1.0) if given is None else given


def _kind(hint: Any) -> type:
    """The type that an option has where it is not None."""
    return next((each for each in get_args(hint) if each is not type(None)), hint)  # type: ignore[no-any-return]


def _value(name: str, value: object, kind: type) -> Any:
    """The value of an option. Raises ArgumentTypeError for one of another type, and texts that do not stand for one."""
    if type(value) is kind:
        return value
    if kind is float and type(value) is int:
        return float(value)
    try:
        if isinstance(value, str) and kind is bool:
            return WORDS[value.strip().lower()]
        if isinstance(value, str):
            return kind(value)
    except (KeyError, ValueError):
        pass
    raise ArgumentTypeError(f"{name} is {shortened(value)}; it must be {KINDS[kind]}")
