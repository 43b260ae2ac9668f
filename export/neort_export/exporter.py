"""From a checkpoint to a bundle: trace, rewrite, quantize, write, verify, and only then rename into place."""

from __future__ import annotations

import math
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch

from neort.backend import DECODER, DECODERS
from neort.bundle import FORMATS, PROMPTS_TOGETHER, WEIGHTS, Quantization, read_spec
from neort.errors import ArgumentTypeError, ConfigError, NeortError, StorageError
from neort.paths import given_path
from neort.verification import VERIFICATION

from .bundle import (
    check_space,
    disk_error,
    external_weights,
    model_section,
    write_card,
    write_configs,
    write_graph,
    write_json,
    write_manifest,
    write_portable,
    write_tokenizer,
)
from .checkpoint import Checkpoint
from .errors import VerificationError
from .graph import decoder_graph, nodes, quantize
from .memory import memory_errors
from .progress import Progress, Silent
from .quantization.limits import Limits
from .quantization.moments import Moments
from .quantization.recipe import recipe_section
from .reference import Reference, calibrate
from .staging import staged_folder
from .verification.figures import Verification
from .verification.int8_cache import write_int8_cache
from .verification.layerwise import LayerwiseRunner
from .verification.measure import load_decoders, measure
from .verification.texts import Texts
from .verification.trial import try_bundle

__all__ = ["Report", "export"]

MOMENTS = "moments"  # scratch folder of the calibration
SPARE_BYTES = 32 << 20  # graphs and small files, beside the weights


@dataclass(frozen=True)
class Report:
    """A bundle that was written, and what its verification measured; None where it was not verified.

    ``left_out`` says why the bundle has no graph for an int8 cache, where that one missed the limits; ``untried`` why
    neort was not let load it and generate some tokens, where that is so.
    """

    path: Path
    verification: Verification | None
    left_out: str | None = None
    untried: str | None = None


def export(
    checkpoint: str | os.PathLike[str],
    bundle: str | os.PathLike[str],
    *,
    revision: str | None = None,
    adapter: str | os.PathLike[str] | None = None,
    tokenizer: str | os.PathLike[str] | None = None,
    quantization: Quantization = "int8",
    force: bool = False,
    verify: bool = True,
    text: str | None = None,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> Report:
    """Export a checkpoint, a folder or a hub name, to the folder ``bundle`` and verify it against torch.

    ``revision`` is a branch, tag or commit of a hub name, which may follow it after an @, too; ``adapter`` a folder
    with a LoRA adapter, which is merged into the weights; ``tokenizer`` where the tokenizer is taken from, a folder or
    a hub name, for a checkpoint without one.
    ``text`` replaces the built-in text of the verification; ``limits`` are the figures that must hold: without it only
    a poor quantization loss fails. An int8 cache that misses them is left out. ``force`` replaces an existing
    bundle. Without ``verify`` nothing is compared with torch, and the manifest says so. In any case neort loads what
    was written and generates a few tokens before the bundle appears.

    Memory: besides torch and the traced graph, one layer of the model, in float64 for a moment, whatever its size; in
    the end what loading the bundle takes, which is left out where there is too little for it.

    Raises ConfigError for an unknown quantization, CheckpointError for a checkpoint that cannot be exported,
    ExportError when something is in the bundle's place, StorageError when it cannot be written, OutOfMemoryError,
    VerificationError when the graph computes something else than torch, when the figures miss the limits and when neort
    does not run the bundle, and ArgumentTypeError for an argument of the wrong type. No bundle, or the old one, is left
    then.
    """
    _check_arguments(quantization, text, limits)
    if quantization not in FORMATS:
        raise ConfigError(f"quantization is {quantization!r}; choose one of {', '.join(FORMATS)}")
    target = given_path(bundle, "the bundle", ConfigError).absolute()
    with memory_errors(f"the checkpoint {checkpoint}"):
        source = Checkpoint(checkpoint, revision=revision, adapter=adapter, tokenizer=tokenizer, progress=progress)
    try:
        with memory_errors(f"the export of {source.path}"), staged_folder(target, force=force) as folder:
            job = _Job(source, folder, quantization, progress or Silent())
            measured = job.run(text, limits or Limits(), verify=verify)
            untried = job.try_out()
            return Report(target, measured, job.left_out, untried or None)
    except VerificationError as error:
        raise VerificationError(f"{error}. No bundle was written") from error
    except StorageError:
        raise
    except OSError as error:
        raise disk_error(error, target) from error


def _check_arguments(quantization: object, text: object, limits: object) -> None:
    kinds: dict[str, tuple[object, tuple[type, ...], str]] = {
        "quantization": (quantization, (str,), "a name"),
        "text": (text, (str, type(None)), "a str or None"),
        "limits": (limits, (Limits, type(None)), "neort_export.Limits or None"),
    }
    for name, (value, types, wanted) in kinds.items():
        if not isinstance(value, types):
            raise ArgumentTypeError(f"{name} is {wanted}, not {type(value).__name__}")


class _Job:
    """One export in its staging folder."""

    def __init__(self, source: Checkpoint, folder: Path, quantization: Quantization, progress: Progress) -> None:
        self.source = source
        self.folder = folder
        self.quantization: Quantization = quantization
        self.progress = progress
        self.reference = Reference(source)
        self.left_out: str | None = None

    def run(self, text: str | None, limits: Limits, *, verify: bool) -> Verification | None:
        write_configs(self.source, self.folder)
        texts = Texts(write_tokenizer(self.source, self.folder), self.source.dimensions, text)
        self.progress.stage("tracing")
        graph = decoder_graph(self.source)
        fp32 = graph.clone()
        hidden = None
        if self.quantization != "fp32":
            hidden = self._quantize(graph, texts, texts.verification if verify else [])
        weights_hash = self._write(graph)
        if self.quantization != "fp32":
            self._write_int8_cache(texts)
        measured = None
        if verify:
            measured = self._measure(fp32, texts, hidden, limits)
        hashes = {WEIGHTS: weights_hash}
        sections: dict[str, Any] = {
            "recipe": self._recipe(texts, graph),
            "format": FORMATS[self.quantization].manifest_section(),
        }
        if measured is not None:
            sections[PROMPTS_TOGETHER] = measured.prompts_together
        write_manifest(self.folder, self.source, sections, verified=verify, hashes=hashes)
        write_card(self.folder, self.source)
        return measured

    def try_out(self) -> str:
        """Let neort run what was written; returns why that was not done, empty where it was."""
        self.progress.stage("loading the bundle")
        try:
            return try_bundle(self.folder)
        except NeortError as error:
            raise VerificationError(
                f"neort does not run the bundle of {self.source.path} ({error}); if the checkpoint's weights and files "
                "are sound, please report that with the release of onnxruntime"
            ) from error

    def _measure(self, fp32: ir.Model, texts: Texts, hidden: list[torch.Tensor] | None, limits: Limits) -> Verification:
        """Compare what was written with torch, write verification.json, drop an int8 cache that misses the limits."""
        written = load_decoders(self.folder)
        fp32_logits = math.isfinite(limits.max_abs_diff)
        measured = measure(
            self.reference, fp32, written, self.quantization, texts, self.progress, hidden, fp32_logits=fp32_logits
        )
        measured.check(limits, self.source)
        if missed := measured.int8_cache_misses(limits):
            self.left_out = f"without a graph for an int8 cache: {'; '.join(missed)}"
            (self.folder / DECODERS["int8"]).unlink()
            measured = replace(measured, int8_cache=None, golden_int8_cache=None)
        write_json(self.folder / VERIFICATION, measured.to_json(texts, limits))
        return measured

    def _quantize(self, graph: ir.Model, texts: Texts, others: list[list[int]]) -> list[torch.Tensor]:
        """Quantize the graph; returns torch's hidden states of other sequences, for which no layer is loaded twice."""
        self.progress.stage("running torch", self.reference.nbytes)
        moments = Moments(self.folder / MOMENTS) if FORMATS[self.quantization].compensated else None
        advance = self.progress.advance
        ranges, hidden = calibrate(self.reference, texts.calibration, moments, advance, others=others)
        self.progress.stage("scaling weights")
        quantize(graph, ranges, self.quantization, moments)
        return hidden

    def _write(self, graph: ir.Model) -> str:
        """Write the graphs and their weights; returns the weights' sha256."""
        nbytes = sum(tensor.nbytes for _, tensor in external_weights(graph))
        check_space(self.folder, nbytes + SPARE_BYTES)
        self.progress.stage(f"writing {self.quantization} weights", nbytes)
        weights_hash = write_graph(graph, self.folder, DECODER, self.progress.advance)
        shutil.rmtree(self.folder / MOMENTS, ignore_errors=True)
        write_portable(self.source, self.folder)
        return weights_hash

    def _write_int8_cache(self, texts: Texts) -> None:
        def run(runner: LayerwiseRunner) -> None:
            self.progress.stage("calibrating the int8 cache", runner.nbytes)
            runner.run(self.progress.advance)

        spec = read_spec({"model": model_section(self.source)})
        write_int8_cache(self.folder, spec, texts.calibration, run)

    def _recipe(self, texts: Texts, graph: ir.Model) -> dict[str, Any]:
        """How the weights were made; the manifest's ``recipe`` section."""
        if self.quantization == "fp32":
            return {"quantization": "fp32"}
        return {
            "quantization": self.quantization,
            **recipe_section(FORMATS[self.quantization], gelu_new=any(nodes(graph.graph, "FastGelu"))),
            "calibration": texts.calibration_facts(),
        }
