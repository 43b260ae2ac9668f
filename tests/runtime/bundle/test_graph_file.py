"""external_locations finds every place where an ONNX file may name another file, and refuses what is no message."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neort.bundle import bundled_path, external_locations


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field of less than 128 bytes."""
    assert len(content) < 128
    key = number << 3 | 2
    return (bytes([key]) if key < 128 else bytes([key & 0x7F | 0x80, key >> 7])) + bytes([len(content)]) + content


def tensor(location: str) -> bytes:
    offset = field(13, field(1, b"offset") + field(2, b"0"))
    return offset + field(13, field(2, location.encode()) + field(1, b"location"))


GRAPH, NODE, ATTRIBUTE = 7, 1, 5
PLACES = {
    "initializer": lambda t: field(GRAPH, field(5, t)),
    "values of a sparse initializer": lambda t: field(GRAPH, field(15, field(1, t))),
    "constant": lambda t: field(GRAPH, field(NODE, field(ATTRIBUTE, field(5, t)))),
    "list of tensors": lambda t: field(GRAPH, field(NODE, field(ATTRIBUTE, field(10, t)))),
    "branch of an If": lambda t: field(GRAPH, field(NODE, field(ATTRIBUTE, field(6, field(5, t))))),
    "body of a function": lambda t: field(25, field(7, field(ATTRIBUTE, field(5, t)))),
    "training graph": lambda t: field(20, field(1, field(5, t))),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_location_is_found_wherever_a_tensor_may_stand(place: str) -> None:
    number_before = bytes([1 << 3, 0x96, 0x01])  # ir_version as a number of two bytes
    assert external_locations(number_before + PLACES[place](tensor("../x"))) == {"../x"}


def test_the_bundled_graph_reads_the_weights_file_only() -> None:
    assert external_locations((bundled_path() / "decoder.onnx").read_bytes()) == {"weights.data"}


@pytest.mark.parametrize("data", [b"\xff" * 12, b"\x3a\x05ab", b"\x3b", b"\x39\x00", b"\x3a"])
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        external_locations(data)


@given(st.binary(max_size=200))
def test_any_bytes_end_in_names_or_a_value_error(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert all(isinstance(name, str) for name in external_locations(data))


def test_onnx_s_own_writer_is_understood() -> None:
    onnx = pytest.importorskip("onnx")
    outside: Any = onnx.TensorProto(name="w", data_type=1, dims=[2], data_location=onnx.TensorProto.EXTERNAL)
    outside.external_data.add(key="location", value="w.bin")
    constant = onnx.helper.make_node("Constant", [], ["y"], value=outside)
    branch = onnx.helper.make_graph([constant], "branch", [], [])
    chosen = onnx.helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=branch)
    model = onnx.helper.make_model(onnx.helper.make_graph([chosen], "g", [], []))
    assert external_locations(model.SerializeToString()) == {"w.bin"}
