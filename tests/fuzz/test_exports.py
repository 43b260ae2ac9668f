"""A share of the checkpoint fuzzer: no damage gives a traceback, a signal, a hang or other answers than torch's."""

from __future__ import annotations

import os

import pytest

pytest.importorskip("torch", reason="the exporter's tests need the extra: pip install 'neort[export]'")
pytest.importorskip("transformers", reason="the exporter's tests need the extra: pip install 'neort[export]'")

import exports
from supervisor import table

CASES = 160


def test_damaged_checkpoints_are_refused_or_exported_as_torch_reads_them() -> None:
    results = list(exports.run_cases(range(CASES), min(2, os.cpu_count() or 1)))
    bad = exports.unexpected(results)
    assert not bad, f"{bad}\n{table(results)}"
    assert len(results) == CASES
    assert {exports.REFUSED, exports.OTHER} <= {result.outcome for result in results}
