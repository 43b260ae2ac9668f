"""The README keeps its promises: its tables are current, its two commands are what CI runs."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

from folders import ROOT
from neort.backend import INT8_CACHE_SINCE

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_tables_come_from_the_results_files() -> None:
    command = [sys.executable, "-m", "benchmarks.report.readme", "--check"]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def test_ci_finds_exactly_the_two_set_up_commands() -> None:
    commands = re.findall(r"^pip install.*$", README, flags=re.MULTILINE)
    assert len(commands) == 2
    assert "neort generate" in commands[0]
    assert commands[1].endswith("&& pytest")
    assert "grep '^pip install' README.md" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_limits_name_the_oldest_versions_that_are_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    runtime, extra = project["dependencies"], project["optional-dependencies"]["export"]
    needed = ".".join(map(str, INT8_CACHE_SINCE))
    assert f"Python {project['requires-python'].removeprefix('>=')} or later" in README
    oldest = next(line.removeprefix("onnxruntime>=") for line in runtime if line.startswith("onnxruntime"))
    assert f"onnxruntime {oldest} or later" in README
    assert f"an int8 cache needs onnxruntime {needed}" in README
    assert f"onnxruntime>={needed}" in extra  # an export verifies a graph for such a cache


def test_every_linked_document_exists() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    assert all((ROOT / link.partition("#")[0]).exists() for link in links)
