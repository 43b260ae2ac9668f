"""What the authors of published checkpoints measured, and which of it a harness of today measures likewise."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "QUALITY_1_3B",
    "QUALITY_2_7B",
    "QUALITY_125M",
    "QUALITY_GPT2",
    "QUALITY_GPT2_LARGE",
    "QUALITY_GPT2_MEDIUM",
    "QUALITY_GPT2_XL",
    "UNKNOWN",
    "PublishedQuality",
]

CARD = "EleutherAI's model card"
PAPER = "Radford et al., Language Models are Unsupervised Multitask Learners (2019), table 3"

BEFORE_THE_TASK = (
    "The WikiText perplexity was published in March 2021, before lm-eval had its WikiText task, and others could not "
    "reproduce it: it is no word perplexity as lm-eval defines it. The LAMBADA accuracy is lm-eval's."
)
OTHERWISE_MEASURED = (
    "Perplexity on WikiText-2 after the authors' own de-tokenizers, LAMBADA's last words chosen with a filter of stop "
    "words: lm-eval's tasks do neither."
)


@dataclass(frozen=True)
class PublishedQuality:
    """What the authors measured, to compare a bundle with; None where no figure is recorded here.

    Only those in ``comparable`` are known to be what lm-eval's tasks measure: a bundle's figures may be set beside
    these.
    """

    wikitext_perplexity: float | None = None
    """Per word; over whole WikiText documents where it is comparable."""
    pile_bits_per_byte: float | None = None
    """Negative log-likelihood / (ln 2 x UTF-8 bytes) on the Pile."""
    lambada_accuracy: float | None = None
    """Share of last words guessed right, in percent."""
    source: str = CARD
    """Where the figures stand."""
    comparable: frozenset[str] = frozenset()
    """Names of the figures that lm-eval's tasks measure the same way."""
    note: str = ""
    """What is known of the others."""


UNKNOWN = PublishedQuality()
QUALITY_125M = PublishedQuality(
    wikitext_perplexity=32.285,
    lambada_accuracy=37.4,
    comparable=frozenset({"wikitext_perplexity", "lambada_accuracy"}),
)
QUALITY_1_3B = PublishedQuality(
    wikitext_perplexity=13.10,
    pile_bits_per_byte=0.7527,
    lambada_accuracy=57.2,
    comparable=frozenset({"lambada_accuracy"}),
    note=BEFORE_THE_TASK,
)
QUALITY_2_7B = PublishedQuality(
    wikitext_perplexity=11.39,
    pile_bits_per_byte=0.7165,
    lambada_accuracy=62.2,
    comparable=frozenset({"lambada_accuracy"}),
    note=BEFORE_THE_TASK,
)


def _of_paper(wikitext_perplexity: float, lambada_accuracy: float) -> PublishedQuality:
    return PublishedQuality(
        wikitext_perplexity, lambada_accuracy=lambada_accuracy, source=PAPER, note=OTHERWISE_MEASURED
    )


QUALITY_GPT2 = _of_paper(29.41, 45.99)
QUALITY_GPT2_MEDIUM = _of_paper(22.76, 55.48)
QUALITY_GPT2_LARGE = _of_paper(19.93, 60.12)
QUALITY_GPT2_XL = _of_paper(18.34, 63.24)
