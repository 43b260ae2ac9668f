"""Every fact that the manifest and the graph both have is the same in both, or the bundle is refused with both values.

The bundles here have manifests of the version before, without a checksum: nothing else finds the change.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import neort
from neort.backend import DECODERS
from neort.bundle import CHECKSUM, Bundle, check_graph
from neort.kvcache import CacheType

EditManifest = Callable[[Callable[[dict[str, Any]], None]], None]
ReplaceFile = Callable[[str, bytes], None]


@pytest.fixture
def edit_old_manifest(edit_manifest: EditManifest) -> EditManifest:
    """Applies a function to the manifest of `bundle_copy`, made one of the version before."""

    def edit(change: Callable[[dict[str, Any]], None]) -> None:
        def without_checksum(manifest: dict[str, Any]) -> None:
            manifest.pop(CHECKSUM, None)
            manifest["format_version"] = 2
            change(manifest)

        edit_manifest(without_checksum)

    return edit


def refusal(bundle: Path, kv_cache: CacheType = "fp32") -> str:
    with pytest.raises(neort.BundleError) as caught:
        neort.load(bundle, num_threads=1, kv_cache=kv_cache)
    return str(caught.value)


@pytest.mark.parametrize(
    ("fact", "value", "own"),
    [
        ("window_size", 120, 128),
        ("window_size", 129, 128),
        ("max_position_embeddings", 712, 512),
        ("max_position_embeddings", 511, 512),
        ("max_position_embeddings", 10**15, 512),
        ("max_position_embeddings", 2**63, 512),
        ("hidden_size", 193, 192),
        ("vocab_size", 4097, 4096),
        ("num_heads", 3, 6),
        ("head_dim", 64, 32),
    ],
)
def test_a_fact_that_is_another_one_in_the_graph_is_refused_with_both(
    fact: str, value: int, own: int, kv_cache: CacheType, bundle_copy: Path, edit_old_manifest: EditManifest
) -> None:
    edit_old_manifest(lambda manifest: manifest["model"].update({fact: value}))
    message = refusal(bundle_copy, kv_cache)
    for part in (bundle_copy / DECODERS[kv_cache], value, own, "copy or export the bundle again"):
        assert str(part) in message


@pytest.mark.parametrize("kinds", [["local", "global"] * 3, ["global"] * 6, ["local"] * 6], ids=lambda kinds: kinds[0])
def test_kinds_of_layers_are_those_of_the_graph(
    kinds: list[str], kv_cache: CacheType, bundle_copy: Path, edit_old_manifest: EditManifest
) -> None:
    edit_old_manifest(lambda manifest: manifest["model"].update(attention_layers=kinds))
    assert "kind of layer" in refusal(bundle_copy, kv_cache)


@pytest.mark.parametrize("count", [5, 7])
def test_the_number_of_layers_is_that_of_the_graph(
    count: int, bundle_copy: Path, edit_old_manifest: EditManifest
) -> None:
    layers = (["global", "local"] * 4)[:count]
    edit_old_manifest(lambda manifest: manifest["model"].update(num_layers=count, attention_layers=layers))
    assert "past_key_values" in refusal(bundle_copy)


def test_a_bundle_of_the_version_before_with_the_right_facts_loads(
    kv_cache: CacheType, bundle_copy: Path, edit_old_manifest: EditManifest, model: neort.Model
) -> None:
    edit_old_manifest(lambda manifest: None)
    loaded = neort.load(bundle_copy, num_threads=1, kv_cache=kv_cache)
    assert loaded.generate("The", max_new_tokens=2).text == model.generate("The", max_new_tokens=2).text


@pytest.mark.parametrize(
    ("name", "what"),
    [("model.onnx", "no input seqlens_k"), ("decoder_int8_cache.onnx", "past_key_values.0.key as int8 [*, 6, *, 32]")],
)
def test_another_graph_in_the_decoder_s_place_is_refused(
    name: str, what: str, bundle_copy: Path, replace_file: ReplaceFile
) -> None:
    replace_file("decoder.onnx", (bundle_copy / name).read_bytes())
    assert what in refusal(bundle_copy)


def test_the_decoder_in_the_int8_cache_s_place_is_refused(
    int8_cache: None, bundle_copy: Path, replace_file: ReplaceFile
) -> None:
    replace_file("decoder_int8_cache.onnx", (bundle_copy / "decoder.onnx").read_bytes())
    assert "past_key_values.0.key as float32" in refusal(bundle_copy, "int8")


# Graphs that are changed


def changed(bundle: Path, change: Callable[[Any], None]) -> bytes:
    """decoder.onnx after a change of its parsed model."""
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(bundle / "decoder.onnx", load_external_data=False)
    change(graph)
    contents: bytes = graph.SerializeToString()
    return contents


def attention(model: Any, layer: int) -> Any:
    return [node for node in model.graph.node if node.op_type == "GroupQueryAttention"][layer]


def set_attribute(layer: int, name: str, value: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        (attribute,) = [each for each in attention(model, layer).attribute if each.name == name]
        attribute.i = value

    return change


def external(model: Any, tensor: int, key: str, value: str) -> None:
    (entry,) = [entry for entry in model.graph.initializer[tensor].external_data if entry.key == key]
    entry.value = value


CHANGES: dict[str, tuple[Callable[[Any], None], str]] = {
    "window": (set_attribute(1, "local_window_size", 127), "window_size of layer 1 127, manifest.json says 128"),
    "window of a global layer": (set_attribute(0, "local_window_size", 128), "kind of layer 0"),
    "heads": (set_attribute(0, "num_heads", 3), "num_heads of layer 0 3, manifest.json says 6"),
    "key heads": (set_attribute(0, "kv_num_heads", 3), "num_heads of layer 0 (keys) 3"),
    "another layer's past": (
        lambda m: attention(m, 2).input.__setitem__(3, "past_key_values.4.key"),
        "inputs of layer",
    ),
    "lengths of another kind": (lambda m: attention(m, 0).input.__setitem__(5, "local_seqlens_k"), "inputs of layer 0"),
    "present": (lambda m: attention(m, 0).output.__setitem__(1, "present.0.value"), "outputs of layer 0"),
    "input's type": (lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 6), "input_ids as int32 [*, *]"),
    "input's name": (lambda m: setattr(m.graph.input[0], "name", "ids"), "no input input_ids"),
    "input's rank": (lambda m: m.graph.input[0].type.tensor_type.shape.dim.add(), "input_ids as int64 [*, *, *]"),
    "no shape": (lambda m: m.graph.output[0].type.tensor_type.ClearField("shape"), "logits as float32 without a shape"),
    "fixed batch": (
        lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 2),
        "input_ids as int64 [2, *]",
    ),
    "one more input": (lambda m: m.graph.input.add(name="x"), "an input 'x'"),
    "one output less": (lambda m: m.graph.output.pop(), "no output present.5.value"),
    "weights beyond the file": (lambda m: external(m, 0, "offset", "999999999"), "of weights.data, which has"),
    "weights of another length": (lambda m: external(m, 0, "length", "8"), "in 8 bytes, which do not fit"),
    "an offset that is no number": (lambda m: external(m, 0, "offset", "-1"), "is no number"),
    "negative axis": (lambda m: m.graph.initializer[0].dims.__setitem__(0, -512), "which do not fit"),
    "other rows": (lambda m: m.graph.initializer[0].dims.__setitem__(0, 256), "which do not fit"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_graph_that_is_another_model_s_is_refused_before_onnxruntime_sees_it(name: str, bundle_path: Path) -> None:
    change, words = CHANGES[name]
    bundle = Bundle(bundle_path)
    with pytest.raises(neort.BundleError) as caught:
        check_graph(changed(bundle_path, change), bundle.file("decoder.onnx"), bundle.spec, bundle.file_sizes, 1)
    assert words in str(caught.value)
    assert str(bundle_path / "decoder.onnx") in str(caught.value)


def test_a_graph_within_a_node_is_refused(bundle_path: Path) -> None:
    def change(model: Any) -> None:
        attribute = model.graph.node[0].attribute.add(name="body")
        attribute.g.name = "body"

    bundle = Bundle(bundle_path)
    with pytest.raises(neort.BundleError, match="graphs of nodes"):
        check_graph(changed(bundle_path, change), bundle.file("decoder.onnx"), bundle.spec, bundle.file_sizes, 1)


def test_a_graph_that_loads_and_does_not_run_is_refused(bundle_copy: Path, replace_file: ReplaceFile) -> None:
    """Blocks of another size: only a run compares them with the scales."""

    def change(model: Any) -> None:
        node = next(node for node in model.graph.node if node.op_type == "QuantizeLinear")
        next(each for each in node.attribute if each.name == "block_size").i = 7

    replace_file("decoder.onnx", changed(bundle_copy, change))
    assert "decoder.onnx" in refusal(bundle_copy)
