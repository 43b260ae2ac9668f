"""The YAML header of a repository's card, made of those of its bundles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import ExportError
from ..markdown import read_front_matter

__all__ = ["merged_header", "read_header"]

LICENCE = ("license", "license_name", "license_link")
LISTS = ("language", "datasets", "base_model", "tags")
ORDER = ("library_name", "pipeline_tag", *LICENCE, "language", "datasets", "base_model", "base_model_relation", "tags")


def read_header(card: str) -> dict[str, Any]:
    """The fields of a card's header: those that the hub has as text as text, and others as they are meant."""
    texts, typed = read_front_matter(card)[0], read_front_matter(card, typed=True)[0]
    return {name: value if name in ORDER else typed.get(name, value) for name, value in texts.items()}


def merged_header(
    headers: Mapping[str, Mapping[str, Any]], manifests: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """One header of those of several formats' cards; what the hub needs and they lack comes from the manifests.

    Raises ExportError for cards that name different licences.
    """
    merged: dict[str, Any] = {"library_name": "neort", "pipeline_tag": "text-generation"}
    for name in LICENCE:
        merged[name] = _the_one(name, headers)
    for name in LISTS:
        values = [value for header in headers.values() for value in _values(header.get(name))]
        merged[name] = list(dict.fromkeys([*values, *(_known(name, manifests))]))
    if len(merged["base_model"]) == 1:
        (merged["base_model"],) = merged["base_model"]
    others = {
        key: value for header in reversed([*headers.values()]) for key, value in header.items() if key not in merged
    }
    return {name: merged.get(name, others.get(name)) for name in ORDER} | {
        name: value for name, value in others.items() if name not in ORDER
    }


def _the_one(name: str, headers: Mapping[str, Mapping[str, Any]]) -> Any:
    """The value that all cards with one agree on."""
    found = {form: header[name] for form, header in headers.items() if header.get(name)}
    if len({str(value) for value in found.values()}) > 1:
        told = " and ".join(f"{value} ({form})" for form, value in found.items())
        raise ExportError(f"the bundles' cards have different values of {name}: {told}; correct their README.md")
    return next(iter(found.values()), None)


def _values(value: Any) -> Sequence[Any]:
    if value is None:
        return ()
    return value if isinstance(value, list) else (value,)


def _known(name: str, manifests: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What the manifests say of a field: which kind of model it is, and what it was made of if that is on the hub."""
    first = next(iter(manifests.values()))
    if name == "tags":
        family = str(first["model"].get("architecture", "gpt_neo"))
        return [family, "onnx", "onnxruntime", "cpu", *manifests]
    source = first.get("source", {})
    if name == "base_model" and source.get("revision") and isinstance(source.get("name"), str):
        return [source["name"]]
    return []
