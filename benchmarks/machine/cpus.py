"""Does a bundle compute on other CPUs what it computes on this one?

    python -m benchmarks.machine.cpus BUNDLE [BUNDLE ...] [--arm-root FOLDER]

Runs each bundle on this machine and under qemu-user (Debian: apt-get install qemu-user) on CPUs without this one's
instructions, and compares the logits: KL(here || there) in nats per token. Where int8 products saturate, it also runs
without neort's remedy. Writes results/cpus.json; what is not installed is listed there with the reason. Emulation is
20 times slower, so the seconds say nothing about the CPUs.

arm64 needs a folder with an arm64 Python in usr/bin and this project's dependencies in site:

    dpkg --add-architecture arm64 && apt-get update
    for p in python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libc6 libgcc-s1 libstdc++6 libexpat1 \\
        zlib1g libssl3 libffi8 libbz2-1.0 liblzma5 libsqlite3-0 libuuid1; do apt-get download $p:arm64; done
    for d in *_arm64.deb; do dpkg-deb -x $d FOLDER; done
    pip install --target FOLDER/site --only-binary=:all: --python-version 3.11 \\
        --platform manylinux_2_28_aarch64 --platform manylinux2014_aarch64 numpy onnxruntime tiktoken

The script writes FOLDER/proc/cpuinfo, because onnxruntime reads it, and qemu would show this machine's.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import neort
import neort_models
from neort.arrays import Ids, Logits
from neort.bundle import Bundle
from neort.generation import log_softmax
from neort.tokenizer import Tokenizer

from ..harness.arguments import script_parser
from ..harness.files import ROOT
from ..harness.results import write_results

TEXT = ROOT / "LICENSE"
EMULATED = ["-m", "benchmarks.machine.emulated"]
SOURCES = [str(Path(package.__file__).parents[1]) for package in (neort, neort_models) if package.__file__]
TIMEOUT = 3600


@dataclass(frozen=True)
class Cpu:
    """``model`` is qemu's name of it; ``features`` are an arm64 CPU's lines Features and CPU part."""

    name: str
    emulator: str
    model: str
    features: tuple[str, str] | None = None

    def missing(self, arm_root: Path | None) -> str | None:
        """Why it cannot be emulated here; None when it can."""
        if not shutil.which(self.emulator):
            return f"{self.emulator} is not installed"
        if self.features and not arm_root:
            return "no folder with an arm64 Python was given"
        return None

    def python(self, arm_root: Path | None) -> list[str]:
        """The command line of Python on this CPU."""
        if not self.features or not arm_root:
            return [self.emulator, "-cpu", self.model, sys.executable]
        write_cpuinfo(arm_root, *self.features)
        return [self.emulator, "-cpu", self.model, "-L", str(arm_root), str(arm_root / "usr/bin/python3.11")]


DOT = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm asimddp"
CPUS = (
    Cpu("x86-64, AVX2 without VNNI", "qemu-x86_64", "Haswell"),
    Cpu("x86-64, SSE4.2", "qemu-x86_64", "Nehalem"),
    Cpu("arm64", "qemu-aarch64", "cortex-a72", ("fp asimd evtstrm crc32 cpuid", "0xd08")),
    Cpu("arm64, dotprod", "qemu-aarch64", "neoverse-n1", (DOT, "0xd0c")),
    Cpu("arm64, dotprod and i8mm", "qemu-aarch64", "max", (f"{DOT} i8mm bf16", "0xd49")),
)


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE")
    parser.add_argument("--arm-root", type=Path, metavar="FOLDER")
    return parser.parse_args()


def run(args: argparse.Namespace) -> dict[str, Any]:
    reasons = {cpu.name: cpu.missing(args.arm_root) for cpu in CPUS}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for path in args.bundles:
            ids = read_ids(path)
            here, _ = compute([sys.executable], path, ids, Path(folder))
            for cpu in CPUS:
                if reasons[cpu.name] is None:
                    row = compare(cpu.python(args.arm_root), path, ids, here, Path(folder))
                    rows.append({"processor": cpu.name, "qemu_cpu": cpu.model, **row})
                    print(json.dumps(rows[-1]), flush=True)
    return {"text": TEXT.name, "rows": rows, "skipped": {name: why for name, why in reasons.items() if why}}


def read_ids(path: Path) -> Ids:
    """The first tokens of the text, half a window more than two windows."""
    bundle = Bundle(path)
    ids = Tokenizer.from_file(path / "tokenizer.json").encode(TEXT.read_text(encoding="utf-8"))
    return np.array(ids[: min(bundle.spec.window_size * 5 // 2, bundle.spec.max_position_embeddings)], np.int64)


def compare(python: list[str], path: Path, ids: Ids, here: Logits, folder: Path) -> dict[str, Any]:
    """The difference that another CPU makes; where its int8 products saturate, also that without the remedy."""
    there, facts = compute(python, path, ids, folder)
    row = {
        "bundle": path.resolve().name,
        "format": Bundle(path).quantization,
        "tokens": len(ids),
        **facts,
        **difference(here, there),
    }
    if facts["saturates"]:
        there, _ = compute(python, path, ids, folder, "--without-remedy")
        row["without_remedy"] = difference(here, there)
    return row


def compute(python: list[str], path: Path, ids: Ids, folder: Path, *flags: str) -> tuple[Logits, dict[str, Any]]:
    """Logits [S, V] that `emulated` computes with this Python, and what it reports."""
    np.save(folder / "ids.npy", ids)
    files = [str(file) for file in (path.resolve(), folder / "ids.npy", folder / "logits.npy")]
    done = subprocess.run(
        [*python, *EMULATED, *files, *flags],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*packages(python), *SOURCES])},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(done.args)} exited with {done.returncode}: {done.stderr[-2000:]}")
    logits: Logits = np.load(folder / "logits.npy")
    return logits, json.loads(done.stdout)


def packages(python: list[str]) -> list[str]:
    """Where an arm64 Python finds numpy and onnxruntime; ours finds its own."""
    return [str(Path(python[python.index("-L") + 1]) / "site")] if "-L" in python else []


def difference(here: Logits, there: Logits) -> dict[str, float]:
    """How far logits [S, V] from elsewhere are from those of this machine."""
    p, q = log_softmax(here), log_softmax(there)
    return {
        "max_abs_diff": float(np.abs(here - there).max()),
        "mean_kl": float((np.exp(p) * (p - q)).sum(axis=-1).mean()),
        "top1_agreement": float((here.argmax(axis=-1) == there.argmax(axis=-1)).mean()),
    }


def write_cpuinfo(arm_root: Path, features: str, part: str) -> None:
    """What Linux would show of two cores with these features."""
    facts = {"Features": features, "CPU implementer": "0x41", "CPU architecture": "8", "CPU variant": "0x1"}
    facts |= {"CPU part": part, "CPU revision": "1"}
    core = "".join(f"{name}\t: {value}\n" for name, value in facts.items())
    file = arm_root / "proc" / "cpuinfo"
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(f"processor\t: {i}\n{core}\n" for i in range(2)), encoding="utf-8")


def main() -> None:
    write_results("cpus", run(parse_args()))


if __name__ == "__main__":
    main()
