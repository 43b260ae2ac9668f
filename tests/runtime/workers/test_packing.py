"""Weights that workers have in common: a folder for as long as a command runs, or weights of their own."""

from __future__ import annotations

import shutil
import stat
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from neort import Model
from neort.workers import load_together, temporary_folder

IDS = list(range(20))


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_folder_is_its_users_alone_and_goes_with_the_command(temporary: Path) -> None:
    with temporary_folder() as one, temporary_folder() as other:
        assert one is not None
        assert other is not None
        assert one != other
        assert stat.S_IMODE(one.stat().st_mode) & 0o077 == 0 or not hasattr(stat, "S_ISSOCK")
        (one / "weights").write_bytes(b"x")
    assert not list(temporary.iterdir())


def test_what_a_killed_command_left_is_removed_and_what_a_running_one_has_is_not(temporary: Path) -> None:
    with temporary_folder() as one:
        assert one is not None
        left = one.with_name(f"{one.name[:-16]}0123456789abcdef")
        left.mkdir()
        left.with_name(f"{left.name}.lock").touch()  # nobody has it locked
        with temporary_folder():
            assert one.exists()
            assert not left.exists()


def test_without_room_for_the_folder_a_worker_has_weights_of_its_own_and_says_so(
    bundle_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    with temporary_folder() as folder:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=4321))
        with pytest.warns(
            UserWarning, match="each worker has weights of its own, since packed weights need .* 4,321 free"
        ):
            loaded = load_together(bundle_path, {"num_threads": 1, "packed_weights": None}, folder)
    np.testing.assert_array_equal(loaded.logits(IDS), model.logits(IDS))


def test_without_a_folder_for_temporary_files_a_worker_has_weights_of_its_own_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="there is no folder for temporary files"), temporary_folder() as folder:
        assert folder is None


@pytest.mark.parametrize("threads", [1, 5, 64])
def test_logits_and_texts_are_those_of_any_number_of_threads(bundle_path: Path, model: Model, threads: int) -> None:
    """So workers with few threads each answer as one process with many does."""
    loaded = load_together(bundle_path, {"num_threads": threads}, None)
    assert loaded.num_threads == threads
    np.testing.assert_array_equal(loaded.logits(IDS), model.logits(IDS))
    options = {"max_new_tokens": 3, "do_sample": True, "seed": 4}
    assert loaded.generate(IDS, **options).token_ids == model.generate(IDS, **options).token_ids  # type: ignore[call-overload]
