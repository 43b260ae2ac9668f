"""The oldest versions that pyproject.toml admits, for an environment that shows whether they do.

python .ci/lower_bounds.py            # constraints for pip: one NAME==VERSION a line for each runtime dependency
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
    found = re.fullmatch(r"([\w.-]+)>=([\d.]+)(,<[\d.]+)?", requirement)
    if found is None:
        raise ValueError(f"{requirement!r} in pyproject.toml must read NAME>=VERSION")
    return f"{found[1]}=={found[2]}"


if __name__ == "__main__":
    if "--python" in sys.argv[1:]:
        sys.stdout.write(oldest(f"python{PROJECT['requires-python']}").replace("==", "") + "\n")
    else:
        sys.stdout.writelines(f"{oldest(requirement)}\n" for requirement in PROJECT["dependencies"])
