"""What a verification measured: its figures, the limits they are held against, and verification.json."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from neort.bundle import Quantization
from neort.verification import GOLDEN

from ..checkpoint import Checkpoint
from ..errors import VerificationError
from ..quantization.limits import Limits
from .agreement import Agreement
from .grades import Grade, grade, meaning, next_better
from .structure import Structure
from .texts import Texts

__all__ = ["QUALITY_REMEDY", "Verification", "misses"]

FP32_DIFFERENCE = "fp32 against torch, max abs logit difference"
BATCH_DIFFERENCE = "in a batch against alone, max abs logit difference"
CHUNK_DIFFERENCE = "in chunks against at once, max abs logit difference"
REPORT = "Please report that, with the release of onnxruntime and the processor"
QUALITY_REMEDY = (
    "Verify on text of the model's own kind (--text), or raise the limit knowingly "
    "(--max-perplexity-ratio, --max-mean-kl)"
)


@dataclass(frozen=True)
class Verification:
    """The figures of verification.json.

    ``structure`` says whether the graph computes what torch computes. ``fp32`` and ``quantized`` are logits against
    torch's: ``quantized`` is None in a bundle of fp32, ``fp32`` in others, unless there is a limit on it.
    ``int8_cache`` is ``quantized`` with an int8 cache, where the bundle has one. The others compare the bundle with
    itself: the largest difference of logits in a batch and of prompts that share a run (of any of its graphs), and the
    largest and the mean one of a prompt in chunks.
    ``golden`` and ``golden_int8_cache`` are what `neort verify` compares each graph with later.
    """

    quantization: Quantization
    structure: Structure
    fp32: Agreement | None
    quantized: Agreement | None
    batch_difference: float
    prompts_difference: float
    chunk_difference: float
    mean_chunk_difference: float
    golden: dict[str, Any]
    int8_cache: Agreement | None = None
    golden_int8_cache: dict[str, Any] | None = None

    @property
    def tokens(self) -> int:
        """The number of tokens on which the bundle was compared with torch."""
        agreement = self.quantized or self.fp32
        assert agreement is not None  # one of them is what the bundle computes
        return agreement.tokens

    @property
    def prompts_together(self) -> bool:
        """Whether prompts that share a run get the bits of each alone; where not, neort runs them one by one."""
        return self.prompts_difference == 0

    @property
    def grade(self) -> Grade | None:
        """What quantization lost, in a word; None in a bundle of fp32."""
        return grade(self.quantized) if self.quantized else None

    def check(self, limits: Limits, checkpoint: Checkpoint) -> None:
        """Raise VerificationError, with figures and remedies, unless all but the int8 cache's are within ``limits``."""
        fp32 = {FP32_DIFFERENCE: (self.fp32.max_abs_diff, limits.max_abs_diff)} if self.fp32 else {}
        findings = [
            (misses(fp32), ["Raise the limit knowingly (--max-abs-diff)"]),
            (
                _quantization_misses(self.quantized, limits, self.quantization),
                [*next_better(checkpoint, self.quantization), QUALITY_REMEDY],
            ),
            (misses({BATCH_DIFFERENCE: (self.batch_difference, 0.0)}), [REPORT]),
            (misses({CHUNK_DIFFERENCE: (self.chunk_difference, math.inf)}), [REPORT]),
        ]
        failed = [figure for found, _ in findings for figure in found]
        remedies = [remedy for found, proposed in findings if found for remedy in proposed]
        if failed:
            graded = f", where its quantization loss is {self.grade}" if self.grade else ""
            told = f"{'; '.join(failed)}. {'. '.join(remedies)}"
            raise VerificationError(f"the bundle misses the limits on {self.tokens:,} tokens of text{graded}: {told}")

    def int8_cache_misses(self, limits: Limits) -> list[str]:
        """Name the figures of the int8 cache that are beyond ``limits``."""
        return _quantization_misses(self.int8_cache, limits, f"{self.quantization} with an int8 cache")

    def to_json(self, texts: Texts, limits: Limits) -> dict[str, Any]:
        """Return the contents of verification.json."""
        agreements = {
            "fp32": self.fp32,
            self.quantization: self.quantized or self.fp32,
            f"{self.quantization}, int8 cache": self.int8_cache,
        }
        grades = {name: grade(a) for name, a in agreements.items() if a and name != "fp32"}
        content = {
            "grades": {name: f"{word}: {meaning(word)}" for name, word in grades.items()},
            "text": texts.verification_facts(),
            "structure": self.structure.to_json(),
            "against_torch": {name: agreement.to_json() for name, agreement in agreements.items() if agreement},
            "limits": asdict(limits),
            "identity": {
                "batch_max_abs_diff": self.batch_difference,
                "prompts_max_abs_diff": self.prompts_difference,
                "chunk_max_abs_diff": self.chunk_difference,
                "chunk_mean_abs_diff": self.mean_chunk_difference,
            },
            GOLDEN["fp32"]: self.golden,
            **({GOLDEN["int8"]: self.golden_int8_cache} if self.golden_int8_cache else {}),
        }
        return {name: _without_infinities(value) for name, value in content.items()}


def _without_infinities(value: Any) -> Any:
    """Figures as JSON has them: null for those that are no finite numbers."""
    if isinstance(value, dict):
        return {name: _without_infinities(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_infinities(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def misses(figures: Mapping[str, tuple[float, float]]) -> list[str]:
    """Name the figures beyond their limits, of values and limits by name; NaN and infinity are beyond every limit."""
    return [
        f"{name}: {value:.6g}, limit {limit:.6g}"
        for name, (value, limit) in figures.items()
        if not (math.isfinite(value) and value <= limit)
    ]


def _quantization_misses(agreement: Agreement | None, limits: Limits, what: str) -> list[str]:
    if agreement is None:
        return []
    ratio = agreement.certain_perplexity_ratio, limits.perplexity_ratio
    return misses(
        {
            f"{what} against torch, mean KL in nats": (agreement.mean_kl, limits.mean_kl),
            f"{what} over torch, perplexity ratio less two standard errors": ratio,
        }
    )
