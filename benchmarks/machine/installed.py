"""What does `pip install .` bring, and what does it weigh?

    python -m benchmarks.machine.installed

Installs the project into a fresh virtual environment and writes results/installed.json: every package with its
version and the bytes of its files.
"""

from __future__ import annotations

import json
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


def run() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        scripts = next(p for p in (Path(folder) / "bin", Path(folder) / "Scripts") if p.is_dir())
        python = str(scripts / "python")
        subprocess.run([python, "-m", "pip", "install", "-q", "--no-compile", str(ROOT)], check=True)
        output = subprocess.run([python, "-c", LIST], check=True, capture_output=True, text=True).stdout
    packages = json.loads(output)
    for name, facts in packages.items():
        print(f"{name:20} {facts['version']:12} {facts['bytes'] / 1e6:7.1f} MB")
    return {"packages": packages, "total_bytes": sum(facts["bytes"] for facts in packages.values())}


def main() -> None:
    script_parser(__doc__).parse_args()
    write_results("installed", run())


if __name__ == "__main__":
    main()
