"""What does `pip install .` bring, what do the extras bring beyond it, and what does it weigh?

    python -m benchmarks.machine.installed

Installs the project into a fresh virtual environment, and then one extra after another, which share no packages.
Writes results/installed.json: every package with its version and the bytes of its files.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import venv
from pathlib import Path
from typing import Any

from ..harness.arguments import script_parser
from ..harness.files import ROOT
from ..harness.results import write_results

LIST = """
import importlib.metadata, json, os
def size(d):
    return sum(os.path.getsize(f.locate()) for f in d.files or () if os.path.isfile(f.locate()))
found = {d.name: {"version": d.version, "bytes": size(d)} for d in importlib.metadata.distributions()}
print(json.dumps({k: v for k, v in sorted(found.items()) if k not in ("pip", "setuptools", "wheel")}))
"""


EXTRAS = ("serve", "grammar")


def run() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        scripts = next(p for p in (Path(folder) / "bin", Path(folder) / "Scripts") if p.is_dir())
        python = str(scripts / "python")
        packages = installed(python, str(ROOT))
        known, extras = dict(packages), {}
        for extra in EXTRAS:
            further = installed(python, f"{ROOT}[{extra}]")
            extras[extra] = summed({name: facts for name, facts in further.items() if name not in known})
            known |= further
    return summed(packages) | {"extras": extras}


def installed(python: str, what: str) -> dict[str, Any]:
    """All packages of an environment into which something more is installed."""
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-compile", what], check=True)
    packages: dict[str, Any] = json.loads(
        subprocess.run([python, "-I", "-c", LIST], check=True, capture_output=True, text=True).stdout
    )
    return packages


def summed(packages: dict[str, Any]) -> dict[str, Any]:
    """Packages, and what they weigh together."""
    for name, facts in packages.items():
        print(f"{name:20} {facts['version']:12} {facts['bytes'] / 1e6:7.1f} MB")
    return {"packages": packages, "total_bytes": sum(facts["bytes"] for facts in packages.values())}


def main() -> None:
    script_parser(__doc__).parse_args()
    os.environ.pop("PYTHONPATH", None)
    write_results("installed", run())


if __name__ == "__main__":
    main()
