"""The rooms of the code know only those that come before them."""

from __future__ import annotations

import itertools

import import_order


def test_no_import_goes_against_the_order() -> None:
    assert list(map(str, import_order.violations())) == []


def test_imports_within_a_package_are_relative_and_others_are_not() -> None:
    for each in import_order.imports():
        assert each.relative == (each.module.partition(".")[0] == each.room.partition(".")[0]), each


def test_every_room_has_its_place_in_the_order() -> None:
    assert import_order.strangers() == []


def test_every_rooms_linter_knows_the_order() -> None:
    different = [file for file, text in import_order.settings().items() if file.read_text(encoding="utf-8") != text]
    assert different == [], "write them anew: python tests/support/import_order.py --write"


def test_what_goes_against_the_order_would_be_found() -> None:
    """The rules say something: each room but the last may not import the one after it."""
    for package, names in import_order.ORDER.items():
        for room, after in itertools.pairwise(names):
            assert f"{package}.{after}" in import_order.banned(f"{package}.{room}")
    found = {each.module for each in import_order.imports()}
    assert {"onnxruntime", "numpy", "neort.bundle", "torch"} <= found
