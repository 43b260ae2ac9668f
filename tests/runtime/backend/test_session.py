"""What may be changed about a session from outside, and seen of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neort.backend import DecoderSession
from neort.bundle import Bundle


def test_configure_gets_the_options_that_the_graph_is_opened_with(bundle_path: Path, tmp_path: Path) -> None:
    def profile(options: Any) -> None:
        options.enable_profiling = True
        options.profile_file_prefix = str(tmp_path / "profile")

    session = DecoderSession(Bundle(bundle_path), num_threads=1, configure=profile)
    session.reserve(1, [])
    session.prefill(0, np.arange(3), 0, 1)
    events = json.loads(Path(session.inference_session.end_profiling()).read_text(encoding="utf-8"))
    assert any(event["cat"] == "Node" for event in events)


def test_configure_sees_the_number_of_threads_and_its_session_only(bundle_path: Path, tmp_path: Path) -> None:
    """Where packed weights are missing, another session saves them first."""
    seen: list[int] = []
    DecoderSession(
        Bundle(bundle_path),
        num_threads=2,
        packed_weights=tmp_path,
        configure=lambda options: seen.append(options.intra_op_num_threads),
    )
    assert seen == [2]


def test_what_configure_raises_is_not_taken_for_a_damaged_bundle(bundle_path: Path) -> None:
    def fail(options: Any) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        DecoderSession(Bundle(bundle_path), num_threads=1, configure=fail)


def test_the_inference_session_cannot_be_replaced(bundle_path: Path) -> None:
    session = DecoderSession(Bundle(bundle_path), num_threads=1)
    assert "logits" in [value.name for value in session.inference_session.get_outputs()]
    with pytest.raises(AttributeError):
        session.inference_session = None  # type: ignore[misc]
