"""From a checkpoint to a bundle: trace, rewrite, quantize, write, verify, and only then rename into place."""

from __future__ import annotations

import errno
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir

from neort.bundle import Bundle
from neort.session import DECODER, DecoderSession
from neort.verification import VERIFICATION, batch_difference, chunk_differences, record_golden

from .calibration import calibrate
from .checkpoint import Checkpoint
from .errors import ExportError
from .formats import FORMATS, Quantization
from .graphs import decoder_graph, quantize
from .manifest import write_json, write_manifest
from .moments import Moments
from .reference import Reference
from .staging import staged_folder
from .texts import Texts
from .tokenization import write_tokenizer
from .verification import Agreement, Floats, Limits, check, compare
from .writer import external_weights, write_graph

__all__ = ["Progress", "Quantization", "Report", "export"]


class Progress(Protocol):
    """What an export tells while it works."""

    def stage(self, name: str) -> None:
        """A new stage begins."""

    def total(self, nbytes: int) -> None:
        """The stage will write this many bytes."""

    def advance(self, nbytes: int) -> None:
        """So many bytes more were written."""


@dataclass(frozen=True)
class Report:
    """What an export measured; the figures of verification.json."""

    path: Path
    fp32: Agreement
    quantized: Agreement | None
    batch_difference: float
    chunk_difference: float


def export(
    checkpoint: str | os.PathLike[str],
    bundle: str | os.PathLike[str],
    *,
    quantization: Quantization = "int8",
    force: bool = False,
    text: str | None = None,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> Report:
    """Export a ``gpt_neo`` checkpoint (a folder or a hub name) to the folder ``bundle`` and verify it against torch.

    ``text`` replaces the built-in text of the verification; ``limits`` are the figures that must hold, the
    format's own without it; ``force`` replaces an existing bundle.

    Raises CheckpointError for a checkpoint that cannot be exported, ExportError when the bundle cannot be written,
    VerificationError when the figures miss the limits. No bundle, or the old one, is left then.
    """
    if quantization not in FORMATS:
        raise ValueError(f"quantization is {quantization!r}; choose one of {', '.join(FORMATS)}")
    target = Path(bundle).expanduser().absolute()
    source = Checkpoint(checkpoint)
    try:
        with staged_folder(target, force=force) as folder:
            job = _Job(source, folder, quantization, progress or _Silent())
            return job.run(text, limits or FORMATS[quantization].limits, target)
    except OSError as error:
        raise _disk_error(error, target) from error


def _disk_error(error: OSError, target: Path) -> ExportError:
    if error.errno != errno.ENOSPC:
        return ExportError(f"{target} could not be written ({error}); nothing was kept")
    free = shutil.disk_usage(target.parent).free
    return ExportError(
        f"the disk of {target.parent} is full ({free:,} bytes free); nothing was kept. "
        "Free some space, or choose another place"
    )


class _Job:
    """One export in its staging folder."""

    def __init__(self, source: Checkpoint, folder: Path, quantization: Quantization, progress: Progress) -> None:
        self.source = source
        self.folder = folder
        self.quantization: Quantization = quantization
        self.progress = progress
        self.reference = Reference(source)

    def run(self, text: str | None, limits: Limits, target: Path) -> Report:
        texts = Texts(write_tokenizer(self.source, self.folder), self.source.config, text)
        self.progress.stage("tracing")
        graph = decoder_graph(self.source)
        self.progress.stage("running torch")
        expected = self.reference.logits(texts.verification)
        fp32 = final = self._fp32(graph, expected, texts)
        if self.quantization != "fp32":
            self.progress.stage("calibrating")
            moments = Moments(self.folder / "moments") if FORMATS[self.quantization].uses_moments else None
            ranges = calibrate(self.reference, texts.calibration, moments)
            quantize(graph, ranges, self.quantization, moments)
            final = self._measure(graph, self.folder, expected, texts)
            if moments:
                moments.remove()
        quantized = None if final is fp32 else final.agreement
        check(fp32.agreement, quantized, final.batch_difference if quantized else None, limits)
        figures: dict[str, Any] = {"fp32": fp32.agreement.to_json(), self.quantization: final.agreement.to_json()}
        write_json(self.folder / VERIFICATION, self._verification(texts, limits, figures, final))
        write_manifest(self.folder, self.source, self._recipe(texts))
        return Report(target, fp32.agreement, quantized, final.batch_difference, final.chunk_differences[0])

    def _fp32(self, graph: ir.Model, expected: Sequence[Floats], texts: Texts) -> _Measurement:
        """Compare the fp32 graph with torch; for a quantized bundle its files are only lent."""
        if self.quantization == "fp32":
            return self._measure(graph, self.folder, expected, texts)
        folder = self.folder / "fp32"
        folder.mkdir()
        for file in self.folder.glob("*.json"):
            shutil.copyfile(file, folder / file.name)
        measurement = self._measure(graph, folder, expected, texts)
        shutil.rmtree(folder)
        return measurement

    def _measure(self, graph: ir.Model, folder: Path, expected: Sequence[Floats], texts: Texts) -> _Measurement:
        """Write a graph, then run it: against torch, and against itself in batches and chunks."""
        self.progress.stage(f"writing {folder.name if folder != self.folder else self.quantization} weights")
        self.progress.total(sum(tensor.nbytes for _, tensor in external_weights(graph)))
        write_graph(graph, folder, DECODER, self.progress.advance)
        write_manifest(folder, self.source, {"quantization": self.quantization})
        self.progress.stage("comparing with torch")
        session = DecoderSession(Bundle(folder))
        ids = np.array(texts.golden, np.int64)
        tolerance = FORMATS[self.quantization].golden_tolerance
        return _Measurement(
            agreement=compare(expected, session, texts.verification),
            batch_difference=batch_difference(session, ids),
            chunk_differences=chunk_differences(session, ids),
            golden=record_golden(session, ids, texts.golden_positions(), tolerance),
        )

    def _recipe(self, texts: Texts) -> dict[str, Any]:
        """How the weights were made; the manifest's ``recipe`` section."""
        if self.quantization == "fp32":
            return {"quantization": "fp32"}
        return {
            "quantization": self.quantization,
            **FORMATS[self.quantization].recipe,
            "calibration": texts.calibration_facts(),
        }

    def _verification(
        self, texts: Texts, limits: Limits, figures: dict[str, Any], final: _Measurement
    ) -> dict[str, Any]:
        """The contents of verification.json."""
        largest, mean = final.chunk_differences
        return {
            "text": texts.verification_facts(),
            "against_torch": figures,
            "limits": {name: limit if math.isfinite(limit) else None for name, limit in asdict(limits).items()},
            "identity": {
                "batch_max_abs_diff": final.batch_difference,
                "chunk_max_abs_diff": largest,
                "chunk_mean_abs_diff": mean,
            },
            "golden": final.golden,
        }


@dataclass(frozen=True)
class _Measurement:
    """One written graph: against torch, in a batch, in chunks (largest and mean difference), and its golden logits."""

    agreement: Agreement
    batch_difference: float
    chunk_differences: tuple[float, float]
    golden: dict[str, Any]


class _Silent:
    """No progress."""

    def stage(self, name: str) -> None: ...
    def total(self, nbytes: int) -> None: ...
    def advance(self, nbytes: int) -> None: ...
