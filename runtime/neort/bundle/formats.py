"""The formats that a bundle's weights can have: every fact about each of them, as numbers, in one table.

The exporter makes weights of these numbers and states them in the manifest, the runtime compares a manifest with them
and reckons with them what a run costs, and the benchmarks reckon bytes and limits. They are stated nowhere else.

Python's own library only; knows nothing about graphs or files.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

__all__ = [
    "BLOCKS_OF_4_BITS",
    "BLOCKS_OF_8_BITS",
    "FORMATS",
    "BlockFormat",
    "Cost",
    "Format",
    "Quantization",
    "RowFormat",
    "format_of",
]

Quantization = Literal["int8", "int8-block", "int4", "fp32"]

SCALE_BYTES = 4  # float32
FLOAT_BITS = 32
COST = "cost"  # in the manifest's section
LEAST_SIZE = 32  # shorter blocks take more memory than the padding of the last one


@dataclass(frozen=True)
class RowFormat:
    """A matrix [N, K] with one scale per row, symmetric; or float32 without scales, where ``bits`` is 32."""

    bits: int

    @property
    def quantized(self) -> bool:
        """Whether the numbers are integers with a scale."""
        return self.bits != FLOAT_BITS

    def matrix_bytes(self, rows: int, columns: int) -> int:
        """Bytes of a matrix, scales included."""
        return rows * (columns * self.bits // 8 + SCALE_BYTES * self.quantized)

    def facts(self) -> dict[str, Any]:
        """For the manifest; the scale that a row has besides is none of ``bytes_per_weight``."""
        return {
            "bits": self.bits,
            "block_size": None,
            "asymmetric": False,
            "bytes_per_weight": self.bits / 8,
            "scale_bytes_per_row": SCALE_BYTES * self.quantized,
        }


@dataclass(frozen=True)
class BlockFormat:
    """A matrix [N, K] whose rows are cut into blocks of ``size`` weights, each with a scale.

    ``asymmetric`` blocks have zero points of their own, of as many bits as a weight.
    """

    bits: int
    size: int
    asymmetric: bool = False

    @property
    def quantized(self) -> bool:
        """True: blocks hold integers."""
        return True

    @property
    def middle(self) -> int:
        """The zero point of symmetric blocks."""
        return 1 << (self.bits - 1)

    @property
    def top(self) -> int:
        """The largest level."""
        return (1 << self.bits) - 1

    def fitting(self, columns: int) -> BlockFormat:
        """The same with blocks half as long, and again, until they cut ``columns`` evenly or are the least."""
        size = self.size
        while columns % size and size > LEAST_SIZE:
            size //= 2
        return replace(self, size=size)

    def block_count(self, columns: int) -> int:
        """Blocks per row."""
        return -(-columns // self.size)

    def packed_bytes(self, levels: int) -> int:
        """Bytes that so many levels take."""
        return -(-levels * self.bits // 8)

    def matrix_bytes(self, rows: int, columns: int) -> int:
        """Bytes of a matrix in blocks that fit its rows, scales and zero points included."""
        form = self.fitting(columns)
        blocks = form.block_count(columns)
        zeros = form.packed_bytes(blocks) if form.asymmetric else 0
        return rows * (blocks * (form.packed_bytes(form.size) + SCALE_BYTES) + zeros)

    def facts(self) -> dict[str, Any]:
        """For the manifest: ``block_size`` is the largest, which rows have that it cuts evenly (see `fitting`)."""
        shared_bits = 8 * SCALE_BYTES + (self.bits if self.asymmetric else 0)
        return {
            "bits": self.bits,
            "block_size": self.size,
            "asymmetric": self.asymmetric,
            "bytes_per_weight": (self.bits + shared_bits / self.size) / 8,
        }


@dataclass(frozen=True)
class Cost:
    """What the logits of k drafted tokens cost beyond a decode step without any, in decode steps: run + k * token."""

    run: float
    token: float

    @classmethod
    def stated(cls, section: Mapping[str, Any]) -> Cost | None:
        """The cost that a manifest's ``format`` section states; None where it states none that can be reckoned with."""
        stated = section.get(COST)
        numbers = stated if isinstance(stated, Mapping) else {}
        run, token = _finite(numbers.get("run")), _finite(numbers.get("token"))
        return None if run is None or not token else cls(run, token)


@dataclass(frozen=True)
class Format:
    """Facts about one format.

    ``linears``: the weights of the layers' linear maps; ``head``: lm_head, which is stored beside the embedding even
    where the two are tied; ``embedding``: the token embedding. Everything else is float32. ``compensated``: rounding
    errors are compensated by second moments of the activations.

    ``cost``: of drafted tokens, at 125M and 1.3B (benchmarks/results/row_costs.json; fp32 from single products).
    ``decode_rate``: tokens per second of one sequence over those of int8 (benchmarks/results/speed.json).
    ``golden_tolerance``: how far another processor's logits may be from the stored ones at least, see
    docs/quantization.md. ``better``: the next format that loses less; None where there is none.
    """

    name: Quantization
    linears: RowFormat | BlockFormat
    head: RowFormat | BlockFormat
    embedding: RowFormat
    cost: Cost
    decode_rate: float
    golden_tolerance: float
    better: Quantization | None
    compensated: bool = False

    @property
    def quantized(self) -> bool:
        """Whether weights are integers; False in fp32."""
        return self.linears.quantized

    def linear_bytes(self, rows: int, columns: int) -> int:
        """Bytes of a linear layer's weights, scales included."""
        return self.linears.matrix_bytes(rows, columns)

    def head_bytes(self, rows: int, columns: int) -> int:
        """Bytes of lm_head, scales included."""
        return self.head.matrix_bytes(rows, columns)

    def embedding_bytes(self, rows: int, columns: int) -> int:
        """Bytes of the token embedding, scales included."""
        return self.embedding.matrix_bytes(rows, columns)

    def manifest_section(self) -> dict[str, Any]:
        """The manifest's ``format`` section: the linear layers' numbers, those of head and embedding, and the cost."""
        return {
            "name": self.name,
            **self.linears.facts(),
            "head": self.head.facts(),
            "embedding": self.embedding.facts(),
            COST: asdict(self.cost),
        }

    def contradictions(self, section: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Where a manifest's section says something else: its value and this table's, by name ("head.bits").

        What only one of the two knows is no contradiction, nor is another cost: it is measured, and a later version
        may know it better.
        """
        facts = {name: value for name, value in self.manifest_section().items() if name != COST}
        return dict(_differences(section, facts))


def _finite(value: Any) -> float | None:
    """A value from a manifest as a number of at least 0; None where it is none."""
    return float(value) if type(value) in (int, float) and 0 <= value <= sys.float_info.max else None


def _differences(found: Mapping[str, Any], own: Mapping[str, Any]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Values that differ under names that both have; names within an object follow its own, after a dot."""
    for name in [name for name in own if name in found]:
        if isinstance(own[name], Mapping) and isinstance(found[name], Mapping):
            for inner, values in _differences(found[name], own[name]):
                yield f"{name}.{inner}", values
        elif own[name] != found[name]:
            yield name, (found[name], own[name])


FLOAT32, INT8 = RowFormat(FLOAT_BITS), RowFormat(8)
BLOCKS_OF_8_BITS, BLOCKS_OF_4_BITS = BlockFormat(8, 256), BlockFormat(4, 128, asymmetric=True)

FORMATS: dict[Quantization, Format] = {
    form.name: form
    for form in (
        Format(
            "int8",
            linears=INT8,
            head=INT8,
            embedding=INT8,
            cost=Cost(run=0.05, token=0.075),
            decode_rate=1.0,
            golden_tolerance=0.25,
            better="int8-block",
        ),
        Format(
            "int8-block",
            linears=BLOCKS_OF_8_BITS,
            head=BLOCKS_OF_8_BITS,
            embedding=INT8,
            cost=Cost(run=0.0, token=0.13),
            decode_rate=1.3,
            golden_tolerance=0.25,
            better="fp32",
        ),
        Format(
            "int4",
            linears=BLOCKS_OF_4_BITS,
            head=BLOCKS_OF_8_BITS,
            embedding=INT8,
            cost=Cost(run=0.0, token=0.2),
            decode_rate=1.6,
            golden_tolerance=0.5,
            better="int8-block",
            compensated=True,
        ),
        Format(
            "fp32",
            linears=FLOAT32,
            head=FLOAT32,
            embedding=FLOAT32,
            cost=Cost(run=0.05, token=0.06),
            decode_rate=0.3,
            golden_tolerance=1e-3,
            better=None,
        ),
    )
}


def format_of(name: str) -> Format | None:
    """The format of a name; None where this version knows none."""
    return next((form for form in FORMATS.values() if form.name == name), None)
