"""Checkpoints, traces and bundles that several modules share: tracing takes seconds, so each is made once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the exporter's tests need the extra: pip install 'neort[export]'")
pytest.importorskip("transformers", reason="the exporter's tests need the extra: pip install 'neort[export]'")

import onnx_ir as ir
import torch
from transformers import GPT2LMHeadModel, GPTNeoForCausalLM

from checkpoints import NO_LIMITS, random_gpt2, random_model, save
from folders import SHARED
from neort.bundle import Quantization
from neort_export import Report, export
from neort_export import exporter as exporter_module
from neort_export.checkpoint import Checkpoint
from neort_export.graph import decoder_graph

torch.set_num_threads(1)  # in models so small several only wait for each other, which costs 20 times the work


@contextmanager
def reusing(graph: ir.Model) -> Iterator[None]:
    """Exports meanwhile trace nothing, and take this graph."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(exporter_module, "decoder_graph", lambda _: graph.clone())
        yield


@pytest.fixture(scope="session")
def neo_mini() -> Path:
    """The small trained checkpoint that every developer has beside the project."""
    folder = SHARED / "checkpoints" / "neo-mini"
    if not folder.is_dir():
        pytest.skip(f"needs the trained checkpoint {folder}")
    return folder


@pytest.fixture(scope="session")
def books() -> str:
    """Text that neither training nor calibration has seen."""
    file = SHARED / "corpus" / "books-valid.txt"
    if not file.is_file():
        pytest.skip(f"needs the text {file}")
    return file.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def model() -> GPTNeoForCausalLM:
    """A random model of two layers, global and local."""
    return random_model()


@pytest.fixture(scope="session")
def checkpoint(model: GPTNeoForCausalLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of ``model``; do not change it."""
    return save(model, tmp_path_factory.mktemp("checkpoint") / "random")


@pytest.fixture(scope="session")
def graph(checkpoint: Path) -> ir.Model:
    """The fp32 decoder graph of ``checkpoint``; clone it before changing it."""
    return decoder_graph(Checkpoint(checkpoint))


@pytest.fixture(scope="session")
def fp32_bundle(checkpoint: Path, graph: ir.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``checkpoint`` in fp32."""
    with reusing(graph):
        return export(checkpoint, tmp_path_factory.mktemp("fp32") / "bundle", quantization="fp32").path


@pytest.fixture(scope="session")
def int8_report(checkpoint: Path, graph: ir.Model, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """``checkpoint`` in int8, without limits."""
    with reusing(graph):
        return export(checkpoint, tmp_path_factory.mktemp("int8") / "bundle", limits=NO_LIMITS)


@pytest.fixture(scope="session")
def gpt2() -> GPT2LMHeadModel:
    """A random GPT-2 of two layers that scale their scores otherwise, with heads that the graph fills up: 12 wide."""
    return random_gpt2(seed=6, n_embd=36, n_head=3, scale_attn_by_inverse_layer_idx=True)


@pytest.fixture(scope="session")
def gpt2_checkpoint(gpt2: GPT2LMHeadModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of ``gpt2``; do not change it."""
    return save(gpt2, tmp_path_factory.mktemp("gpt2") / "random")


@pytest.fixture(scope="session")
def gpt2_exports(gpt2_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Quantization], Report]:
    """Exports ``gpt2_checkpoint`` in a format, without limits; it is traced once."""
    graph = decoder_graph(Checkpoint(gpt2_checkpoint))
    folder = tmp_path_factory.mktemp("gpt2-bundles")

    @cache
    def exported(quantization: Quantization) -> Report:
        with reusing(graph):
            return export(gpt2_checkpoint, folder / quantization, quantization=quantization, limits=NO_LIMITS)

    return exported


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch, graph: ir.Model) -> Callable[[str, object], None]:
    """Exports of ``checkpoint`` reuse its graph; the fixture's value replaces names of the export module."""

    def replace(name: str, value: object) -> None:
        monkeypatch.setattr(exporter_module, name, value)

    replace("decoder_graph", lambda _: graph.clone())
    return replace
