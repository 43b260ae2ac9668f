"""The names of inputs and outputs are those of the graphs on disk."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest

from neort.backend import DECODER, DECODERS
from neort.bundle import Bundle, graph_names

RUN = [
    graph_names.INPUT_IDS,
    graph_names.POSITION_IDS,
    graph_names.SEQLENS_K,
    graph_names.TOTAL_SEQUENCE_LENGTH,
    graph_names.LOCAL_SEQLENS_K,
    graph_names.LOCAL_TOTAL_SEQUENCE_LENGTH,
    graph_names.LOGITS_TO_KEEP,
]
PORTABLE = [graph_names.INPUT_IDS, graph_names.ATTENTION_MASK, graph_names.POSITION_IDS]


@pytest.mark.parametrize(("file", "inputs"), [(DECODER, RUN), (DECODERS["int8"], RUN), ("model.onnx", PORTABLE)])
def test_a_graph_has_these_inputs_and_outputs_and_no_others(
    file: str, inputs: list[str], bundle_path: Path, request: pytest.FixtureRequest
) -> None:
    if file == DECODERS["int8"]:
        request.getfixturevalue("int8_cache")
    bundle = Bundle(bundle_path)
    session = onnxruntime.InferenceSession(bundle.file(file), providers=["CPUExecutionProvider"])
    parts = graph_names.cache_parts(bundle.spec.num_layers)
    assert {value.name for value in session.get_inputs()} == {*inputs, *map(graph_names.past, parts)}
    assert [value.name for value in session.get_outputs()] == [graph_names.LOGITS, *map(graph_names.present, parts)]


def test_an_input_tells_which_part_of_the_cache_it_is() -> None:
    parts = graph_names.cache_parts(2)
    assert parts == ["0.key", "0.value", "1.key", "1.value"]
    assert [graph_names.part_of(graph_names.past(part)) for part in parts] == parts
    assert all(graph_names.is_past(graph_names.past(part)) for part in parts)
    assert not any(map(graph_names.is_past, [*RUN, graph_names.LOGITS, graph_names.present("0.key"), None]))
