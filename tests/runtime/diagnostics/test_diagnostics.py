"""What is found out about a machine: what its system says, what is measured, and what follows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from neort import Model
from neort.backend import open_session, plain_options
from neort.bundle import FORMATS, WEIGHTS
from neort.diagnostics import (
    Limits,
    MachineFacts,
    bundle_bytes,
    expected,
    expected_rate,
    findings,
    fitting_format,
    instruction_sets,
    known_presets,
    limits,
    machine_facts,
    measured_limits,
    measured_speed,
    prediction,
    speed,
)
from neort.diagnostics.onnx_bytes import product_model

FACTS = MachineFacts("CPU", "Linux x86_64", {"AVX2": True, "VNNI": True}, 4, 4, None, 4, 8 << 30, 6 << 30, None, {})
LIMITS = Limits(50e9, 800e9, 200e9)


@pytest.mark.parametrize(
    ("machine", "cpuinfo", "present"),
    [
        ("x86_64", "model name\t: A\nflags\t\t: fpu avx2 avx512f avx512_vnni\n", {"AVX2", "AVX512", "VNNI"}),
        ("x86_64", "flags\t\t: fpu avx2 avx_vnni amx_int8\n", {"AVX2", "VNNI", "AMX"}),
        ("aarch64", "Features\t: fp asimd asimddp i8mm sve\n", {"NEON", "dotprod", "i8mm", "SVE"}),
        ("aarch64", "Features\t: fp asimd\n", {"NEON"}),
    ],
)
def test_linux_tells_the_instructions(machine: str, cpuinfo: str, present: set[str]) -> None:
    found = instruction_sets(machine, cpuinfo, "")
    assert found is not None
    assert {name for name, has in found.items() if has} == present


def test_macos_tells_the_instructions() -> None:
    apple = "hw.optional.AdvSIMD: 1\nhw.optional.arm.FEAT_DotProd: 1\nhw.optional.arm.FEAT_I8MM: 0\n"
    assert instruction_sets("arm64", "", apple) == {"NEON": True, "dotprod": True, "i8mm": False, "SVE": False}
    intel = "machdep.cpu.leaf7_features: RDWRFSGSBASE AVX2 AVX512F\n"
    found = instruction_sets("x86_64", "", intel)
    assert found is not None
    assert (found["AVX2"], found["AVX512"], found["VNNI"]) == (True, True, False)


def test_a_system_that_tells_nothing_is_unknown() -> None:
    assert instruction_sets("x86_64", "", "") is None
    unknown = next(each for each in findings(replace(FACTS, instructions=None), False) if each.name == "instructions")
    assert (unknown.status, unknown.found.startswith("unknown")) == ("note", True)


def test_this_machine_has_facts() -> None:
    facts = machine_facts()
    assert facts.threads >= 1
    assert facts.versions["neort"]
    assert facts.processor


@pytest.mark.parametrize(
    ("change", "name", "status"),
    [
        ({}, "threads", "ok"),
        ({"affinity": 2, "threads": 2}, "threads", "note"),
        ({"quota": 0.5, "threads": 1}, "threads", "problem"),
        ({}, "memory", "ok"),
        ({"memory_free": 100 << 20}, "memory", "problem"),
        ({"memory": None, "memory_free": None}, "memory", "note"),
        ({}, "instructions", "ok"),
        ({"instructions": {"AVX2": True, "VNNI": False}}, "instructions", "note"),
    ],
)
def test_findings_have_one_word_and_a_problem_has_its_remedy(change: dict[str, object], name: str, status: str) -> None:
    facts = replace(FACTS, **change)  # type: ignore[arg-type]
    found = {each.name: each for each in findings(facts, False)}
    assert found[name].status == status
    assert all(each.remedy for each in found.values() if each.status == "problem")


def test_saturating_products_are_told() -> None:
    found = {each.name: each for each in findings(FACTS, True)}
    assert found["int8 products"].status in ("note", "problem")


def test_models_written_by_hand_compute_their_products() -> None:
    random = np.random.default_rng(0)
    x, w = random.random((3, 300), np.float32), random.random((300, 5), np.float32)
    session = open_session(product_model("MatMul", x, {"w": w}, "float32"), plain_options(1))
    assert np.allclose(session.run(None, {"x": x})[0], x @ w, rtol=1e-4)
    bytes_, weights = random.integers(0, 9, (3, 300), np.uint8), random.integers(-9, 9, (300, 5), np.int8)
    session = open_session(product_model("MatMulInteger", bytes_, {"w": weights}, "int32"), plain_options(1))
    assert np.array_equal(session.run(None, {"x": bytes_})[0], bytes_.astype(np.int32) @ weights.astype(np.int32))


def test_limits_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"ARRAY_BYTES": 1 << 20, "BLOCK_COLUMNS": 64, "ROWS": 8, "INNER": 64, "COLUMNS": 64, "ROUNDS": 1}
    for name, value in small.items():
        monkeypatch.setattr(limits, name, value)
    told: list[str] = []
    found = measured_limits(1, tell=told.append)
    assert min(found.read_bytes_per_second, found.int8_operations_per_second, found.fp32_operations_per_second) > 0
    assert len(told) == 3


def test_the_bytes_of_a_step_are_those_of_the_weights_it_reads(model: Model) -> None:
    spec, form = model.spec, FORMATS["int8"]
    shape = prediction.Shape("neo-mini", spec.hidden_size, spec.num_layers, spec.vocab_size)
    rest = bundle_bytes(model.bundle)
    assert rest < model.bundle.file_sizes[WEIGHTS]
    positions = 4 * spec.max_position_embeddings * spec.hidden_size
    assert shape.step_bytes(form) == pytest.approx(rest - positions, rel=0.1)


def test_predictions_are_near_what_was_measured_on_a_machine_of_known_limits() -> None:
    """docs/benchmarks.md: 1.3B at 48 GB/s writes 20.8, 23.0 and 35.0 tokens/s in these formats."""
    measured = {"int8": 20.8, "int8-block": 23.0, "int4": 35.0}
    made = {
        each.format: each for each in expected(Limits(48e9, 785e9, 198e9), None) if each.checkpoint == "gpt-neo-1.3b"
    }
    for name, rate in measured.items():
        assert made[name].decode_rate == pytest.approx(rate, rel=0.5)
    assert made["int8"].prompt_rate == pytest.approx(224, rel=0.3)


def test_every_known_checkpoint_is_predicted_and_told_where_it_does_not_fit() -> None:
    made = list(expected(LIMITS, 2 << 30))
    assert len(made) == len(known_presets()) * len(FORMATS) > 40
    fits = {(each.checkpoint, each.format): each.fits for each in made}
    assert fits["gpt-neo-125m", "fp32"] is True
    assert fits["gpt-neo-1.3b", "fp32"] is False
    assert expected_rate(1e9, 24, "int8", LIMITS) < expected_rate(
        1e9, 24, "int8", replace(LIMITS, read_bytes_per_second=9e10)
    )


def test_the_format_follows_from_the_limits() -> None:
    assert fitting_format(LIMITS, False)[0] == "int8"
    assert fitting_format(LIMITS, True)[0] == "int8-block"
    assert fitting_format(replace(LIMITS, int8_operations_per_second=200e9), False)[0] == "int8-block"


def test_speed_is_measured_in_rounds_that_take_turns(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "LENGTHS", (8, 16, 100_000))
    monkeypatch.setattr(speed, "FIRST_TOKEN", 16)
    monkeypatch.setattr(speed, "BATCHES", (1, 2))
    monkeypatch.setattr(speed, "NEW_TOKENS", (3, 4))
    told: list[str] = []
    figures = measured_speed(model, 0.0, lambda _, what: told.append(what))
    names = [
        "read a prompt of 8",
        "read a prompt of 16",
        "first token after 16",
        "write 1 text",
        "write 2 texts at once",
    ]
    assert [figure.name for figure in figures] == names
    assert all(len(figure.values) == 2 and min(figure.values) > 0 for figure in figures)
    cases = ["prompt of 8", "prompt of 16", "write 1 text", "write 2 texts at once"]
    assert told[1:] == cases + cases
    assert all(
        figure.best <= figure.median if figure.unit == "s" else figure.best >= figure.median for figure in figures
    )
