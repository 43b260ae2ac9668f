"""Measures a bundle's graph against torch and against itself, one layer of the model in memory at a time."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray

from neort.backend import DECODERS
from neort.bundle import FORMATS, PROMPTS_TOGETHER, WEIGHTS, Bundle, ModelSpec, Quantization, read_spec
from neort.files import partial_folder, storage_errors
from neort.kvcache import CacheType
from neort.runner import ModelRunner
from neort.tokenizer import Tokenizer
from neort.verification import (
    VERIFICATION,
    batch_difference,
    chunk_differences,
    largest,
    prompts_difference,
    record_golden,
)

from ..bundle import model_section, renew_card, write_json, write_manifest
from ..checkpoint import Checkpoint
from ..errors import ExportError, VerificationError
from ..graph import decoder_graph
from ..memory import memory_errors, return_freed
from ..progress import Progress, Silent
from ..quantization.limits import Limits
from ..reference import Reference
from ..staging import staged_folder
from .agreement import Agreement, chunk_logits, compare
from .figures import QUALITY_REMEDY, Verification
from .layerwise import LayerwiseRunner
from .structure import COMPARED_LOGITS, REPORT, Structure, check_attention, compared_tokens, measure_structure
from .texts import Texts
from .trial import try_bundle

__all__ = ["load_decoders", "measure", "verify"]

Floats = NDArray[np.float32]
Measure = Callable[[ModelRunner], object]

CHUNKS_TO_PROCESSORS = 4  # another processor's rounding may move logits a few times as far as other chunks do here


def measure(
    reference: Reference,
    fp32: ir.Model,
    written: Mapping[CacheType, ir.Model],
    quantization: Quantization,
    texts: Texts,
    progress: Progress,
    hidden: list[torch.Tensor] | None = None,
    *,
    fp32_logits: bool = False,
    remedy: str = REPORT,
) -> Verification:
    """Compare ``written``, the decoder graphs of a bundle by the type of their cache, with torch and with themselves.

    ``fp32`` is the graph before quantization: it shows that the graph computes what torch computes, and with
    ``fp32_logits`` how far its logits are from torch's. ``hidden`` is what torch makes of the verification text, where
    that is known already; ``remedy`` is what to do where the graphs compute something else.

    Raises VerificationError for a graph that computes something else than torch, and for NaN or infinite values.
    """
    is_fp32 = quantization == "fp32"
    fp32 = written["fp32"] if is_fp32 else fp32
    spec = _spec(reference)
    quantized = None if is_fp32 else written["fp32"]
    structure = _check_structure(reference, fp32, written, quantized, texts, progress, remedy)
    torch_side = _torch(reference, hidden, texts, progress)
    agreement = None
    if fp32_logits and not is_fp32:
        agreement = torch_side.compare(LayerwiseRunner(fp32, spec), "fp32")
    own, itself = _measure_own(torch_side, LayerwiseRunner(written["fp32"], spec), quantization)
    small = golden = None
    if "int8" in written:
        rows: list[Floats] = []
        runner = LayerwiseRunner(written["int8"], spec)
        together = partial(prompts_difference, token_ids=np.array(texts.golden, np.int64))
        small = torch_side.compare(runner, f"{quantization} with an int8 cache", rows, (together,))
        itself["prompts_difference"] = largest([itself["prompts_difference"], together(runner)])
        golden = _golden(rows, texts, quantization, itself["chunk_difference"])
    return Verification(
        quantization,
        structure,
        fp32=own if is_fp32 else agreement,
        quantized=None if is_fp32 else own,
        int8_cache=small,
        golden_int8_cache=golden,
        **itself,
    )


def load_decoders(folder: Path) -> dict[CacheType, ir.Model]:
    """Load the decoder graphs that a bundle's folder has, by the type of their cache; weights stay in their file."""
    return {kind: ir.load(folder / name) for kind, name in DECODERS.items() if (folder / name).exists()}


def verify(
    bundle: str | os.PathLike[str],
    checkpoint: str | os.PathLike[str],
    *,
    revision: str | None = None,
    adapter: str | os.PathLike[str] | None = None,
    tokenizer: str | os.PathLike[str] | None = None,
    text: str | None = None,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Measure a bundle against the checkpoint that it was made of; write its verification.json and its card's figures.

    ``revision``, ``adapter`` and ``tokenizer`` are those with which it was exported; ``text`` replaces the built-in
    text, ``limits`` the figures that must hold.

    Raises BundleError for a damaged bundle, CheckpointError for a bad checkpoint, ExportError when the two do not
    belong together, StorageError when the bundle cannot be written anew (which is tried before anything is measured),
    VerificationError when the figures miss the limits, OutOfMemoryError, and what neort raises where it does not run
    the bundle; the bundle stays as it was then. What the old verification.json says is not looked at.
    """
    with memory_errors(f"measuring {bundle}"):
        source = Checkpoint(checkpoint, revision=revision, adapter=adapter, tokenizer=tokenizer, progress=progress)
        return _verify(Bundle(bundle, check_weights=True), source, text, limits, progress)


def _verify(
    opened: Bundle, source: Checkpoint, text: str | None, limits: Limits | None, progress: Progress | None
) -> Verification:
    if opened.format is None:
        raise ExportError(
            f"{opened.path} is of the format {opened.quantization!r}, this version measures {', '.join(FORMATS)}; "
            "use the version of neort that made the bundle"
        )
    if model_section(source) != opened.manifest["model"]:
        raise ExportError(
            f"{opened.path} is not made of {source.path}: model dimensions differ; give the checkpoint it was made of"
        )
    _check_place(opened.path.resolve())
    quantization = opened.format.name
    limits, progress = limits or Limits(), progress or Silent()
    texts = Texts(Tokenizer.from_file(opened.file("tokenizer.json")), source.dimensions, text)
    progress.stage("loading the bundle")
    try_bundle(opened.path)
    progress.stage("tracing")
    fp32, written = decoder_graph(source), load_decoders(opened.path)
    measured = measure(
        Reference(source),
        fp32,
        written,
        quantization,
        texts,
        progress,
        fp32_logits=math.isfinite(limits.max_abs_diff),
        remedy=f"Give the checkpoint that {opened.path.name} was made of. If this is the one: {REPORT}",
    )
    measured.check(limits, source)
    _check_int8_cache(measured, limits, opened.path)
    _rewrite(opened, source, measured, measured.to_json(texts, limits))
    return measured


def _check_int8_cache(measured: Verification, limits: Limits, bundle: Path) -> None:
    if missed := measured.int8_cache_misses(limits):
        raise VerificationError(
            f"{bundle} misses the limits with an int8 cache: {'; '.join(missed)}. {QUALITY_REMEDY}, or export the "
            "checkpoint again, which leaves such a cache out"
        )


def _check_place(target: Path) -> None:
    """Raises StorageError where a bundle cannot be written anew, which is known before anything is measured."""
    with storage_errors(VERIFICATION, target, _remedy(target)), partial_folder(target):
        pass


def _remedy(target: Path) -> str:
    return f"make the folder {target.parent} writable, in which the bundle is written anew; the bundle is as it was"


def _rewrite(bundle: Bundle, source: Checkpoint, measured: Verification, content: dict[str, Any]) -> None:
    """The same bundle with other figures, in its card, too; it takes the old one's place in one step."""
    target = bundle.path.resolve()
    with (
        storage_errors(VERIFICATION, target, "make room; the bundle is as it was"),
        staged_folder(target, force=True, remedy=_remedy(target)) as stage,
    ):
        for name in bundle.file_names:
            if name != VERIFICATION:
                _link(target / name, stage / name)
        write_json(stage / VERIFICATION, content)
        hashes = {name: facts["sha256"] for name, facts in bundle.manifest["files"].items() if name == WEIGHTS}
        sections = {name: value for name, value in bundle.manifest.items() if name in ("recipe", "format")}
        sections[PROMPTS_TOGETHER] = measured.prompts_together
        write_manifest(stage, source, sections, verified=True, hashes=hashes)
        renew_card(target, stage, source)


def _link(file: Path, link: Path) -> None:
    try:
        os.link(file, link)
    except OSError:  # a file system without hard links
        shutil.copyfile(file, link)


def _spec(reference: Reference) -> ModelSpec:
    return read_spec({"model": model_section(reference.checkpoint)})


def _check_structure(
    reference: Reference,
    fp32: ir.Model,
    written: Mapping[CacheType, ir.Model],
    quantized: ir.Model | None,
    texts: Texts,
    progress: Progress,
    remedy: str,
) -> Structure:
    """How far each part is from torch's; raises VerificationError for a graph that computes something else."""
    spec = _spec(reference)
    tokens = compared_tokens(texts.calibration[0], spec)  # the built-in text, which passes the window's edge
    answers = reference.parts(tokens, last=COMPARED_LOGITS)
    structure = measure_structure(answers, fp32, spec, tokens, progress, quantized)
    structure.check(spec, remedy)
    for graph in written.values():
        check_attention(graph, fp32)
    return structure


@dataclass(frozen=True)
class _Torch:
    """What torch makes of the verification text: ``hidden`` states, of which logits are computed as they are needed."""

    reference: Reference
    hidden: list[torch.Tensor]
    texts: Texts
    progress: Progress

    def compare(
        self, runner: LayerwiseRunner, name: str, golden: list[Floats] | None = None, functions: Sequence[Measure] = ()
    ) -> Agreement:
        """Compare a graph's logits of the verification text with torch's.

        Those at the golden positions are added to ``golden``; ``functions`` of the same runner are recorded only.
        """
        sequences = self.texts.verification
        for function in (_all_logits(sequences), *functions):
            runner.record(function)
        self.progress.stage(f"comparing {name} with torch", runner.nbytes)
        runner.run(self.progress.advance)
        positions = self.texts.golden_positions()
        own = _kept(chunk_logits(runner, sequences), positions, [] if golden is None else golden)
        agreement = compare(self.reference.logit_rows(self.hidden), own, sequences)
        return_freed()
        return agreement


def _torch(reference: Reference, hidden: list[torch.Tensor] | None, texts: Texts, progress: Progress) -> _Torch:
    if hidden is None:
        progress.stage("running torch", reference.nbytes)
        hidden = reference.hidden_states(texts.verification, progress=progress.advance)
    return _Torch(reference, hidden, texts, progress)


def _measure_own(
    torch_side: _Torch, runner: LayerwiseRunner, quantization: Quantization
) -> tuple[Agreement, dict[str, Any]]:
    """The agreement of the bundle's own graph with torch, and the fields of `Verification` about the graph itself."""
    texts = torch_side.texts
    ids = np.array(texts.golden, np.int64)
    in_batch, in_chunks = partial(batch_difference, token_ids=ids), partial(chunk_differences, token_ids=ids)
    together = partial(prompts_difference, token_ids=ids)
    rows: list[Floats] = []
    agreement = torch_side.compare(runner, quantization, rows, (in_batch, in_chunks, together))
    difference = in_batch(runner)  # in the order in which they were recorded
    most, mean = in_chunks(runner)
    return agreement, {
        "batch_difference": difference,
        "prompts_difference": together(runner),
        "chunk_difference": most,
        "mean_chunk_difference": mean,
        "golden": _golden(rows, texts, quantization, most),
    }


def _golden(
    rows: Sequence[Floats], texts: Texts, quantization: Quantization, chunk_difference: float
) -> dict[str, Any]:
    """The golden logits of a graph, of its ``rows`` of logits at the golden positions."""
    tolerance = max(FORMATS[quantization].golden_tolerance, CHUNKS_TO_PROCESSORS * chunk_difference)
    return record_golden(np.concatenate(rows), np.array(texts.golden, np.int64), texts.golden_positions(), tolerance)


def _all_logits(sequences: Sequence[Sequence[int]]) -> Measure:
    def all_logits(runner: ModelRunner) -> None:
        for _ in chunk_logits(runner, sequences):
            pass

    return all_logits


def _kept(logits: Iterable[Floats], positions: Sequence[int], kept: list[Floats]) -> Iterator[Floats]:
    """The same logits, a row range at a time; the rows at some positions are copied to ``kept``."""
    start = 0
    for rows in logits:
        kept.append(rows[[p - start for p in positions if start <= p < start + len(rows)]])
        start += len(rows)
        yield rows
