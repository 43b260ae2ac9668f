"""The oldest versions that pyproject.toml admits, for an environment that shows whether they do.

python .ci/lower_bounds.py            # constraints for pip: one NAME==VERSION a line for each dependency and extra
python .ci/lower_bounds.py --python   # the name of the oldest Python, python3.11 say
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def oldest(requirement: str) -> str:
    """`numpy>=1.26` as `numpy==1.26`. Raises ValueError for a requirement without a lower bound."""
    found = re.fullmatch(r"([\w.-]+)(?:\[[\w,-]+\])?>=([\d.]+)(,<[\d.]+)?( *;.*)?", requirement)
    if found is None:
        raise ValueError(f"{requirement!r} in pyproject.toml must read NAME>=VERSION or NAME[EXTRA]>=VERSION")
    return f"{found[1]}=={found[2]}"


def constraints() -> list[str]:
    """One for each package; what the runtime itself asks for goes before what an extra does."""
    extras = [requirement for extra in PROJECT["optional-dependencies"].values() for requirement in extra]
    bounds: dict[str, str] = {}
    for requirement in PROJECT["dependencies"] + extras:
        if not requirement.startswith(f"{PROJECT['name']}["):
            bound = oldest(requirement)
            bounds.setdefault(bound.partition("==")[0], bound)
    return list(bounds.values())


if __name__ == "__main__":
    if "--python" in sys.argv[1:]:
        sys.stdout.write(oldest(f"python{PROJECT['requires-python']}").replace("==", "") + "\n")
    else:
        sys.stdout.writelines(f"{constraint}\n" for constraint in constraints())
