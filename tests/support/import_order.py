"""The order of imports: which room may know which. ``python tests/support/import_order.py`` prints it, with violations.

A room is a folder or a module right below a package. It may import the rooms before it in its package's order, never
those after it. The same order stands in the ruff.toml of every room, so that an editor finds a violation as it is
written; ``--write`` writes these files.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from folders import ROOT

ORDER = {
    "neort": [
        "starting",
        "errors",
        "wording",
        "paths",
        "arrays",
        "files",
        "bundle",
        "hub",
        "tokenizer",
        "generation",
        "prompts",
        "runner",
        "kvcache",
        "speculative",
        "backend",
        "engine",
        "scoring",
        "features",
        "asynchronous",
        "model",
        "loading",
        "verification",
        "workers",
        "batches",
        "explanation",
        "diagnostics",
        "pipelines",
        "server",
        "pulling",
        "cli",
        "integrations",
    ],
    "neort_export": [
        "errors",
        "progress",
        "memory",
        "parallel",
        "staging",
        "markdown",
        "architectures",
        "checkpoint",
        "quantization",
        "reference",
        "graph",
        "bundle",
        "verification",
        "exporter",
        "repository",
        "training",
        "cli",
    ],
    "neort_models": ["quality", "presets"],
}
SOURCES = {"neort": "runtime", "neort_export": "export", "neort_models": "models"}
PACKAGES = {"neort": {"neort_models"}, "neort_export": {"neort", "neort_models"}, "neort_models": set[str]()}
STRANGERS = {("neort.engine", "neort.backend")}  # though one comes before the other
HEAVY = ["torch", "transformers", "onnx", "onnx_ir", "onnxscript"]
ALONE = {"onnxruntime": "neort.backend"}  # a library, and the only room that may import it


@dataclass(frozen=True)
class Import:
    """One import: where it stands, who imports what, and whether by a relative name."""

    file: Path
    line: int
    room: str
    module: str
    relative: bool

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line}: {self.room} imports {self.module}"


def imports() -> Iterator[Import]:
    """Every import of the three packages, wherever in a file it stands."""
    for package, source in SOURCES.items():
        for file in sorted((ROOT / source / package).rglob("*.py")):
            parts = file.relative_to(ROOT / source).with_suffix("").parts
            room = ".".join(parts[:2]) if parts[1:] != ("__init__",) else package
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                for module in _modules(node, parts[:-1]):
                    relative = bool(getattr(node, "level", 0))
                    yield Import(file, getattr(node, "lineno", 0), room, module, relative)


def _modules(node: ast.AST, folder: tuple[str, ...]) -> list[str]:
    """The absolute names of what a statement in a module of ``folder`` imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = list(folder[: len(folder) - node.level + 1]) if node.level else []
    module = ".".join([*base, *([node.module] if node.module else [])])
    return [module] if node.module else [f"{module}.{alias.name}" for alias in node.names]


def banned(room: str) -> dict[str, str]:
    """What a room may not import, by module, with the reason."""
    package = room.partition(".")[0]
    reasons = {name: f"{package} knows nothing of it" for name in SOURCES if name not in PACKAGES[package] | {package}}
    if package == "neort":
        reasons |= dict.fromkeys(HEAVY, "the runtime runs without it")
    reasons |= {name: f"only {owner} knows it" for name, owner in ALONE.items() if owner != room}
    names = [f"{package}.{name}" for name in ORDER[package]]
    if room in names:
        later = names[names.index(room) + 1 :] + [other for one, other in STRANGERS if one == room]
        reasons |= dict.fromkeys(later, f"{room.partition('.')[2]} does not know it: see tests/support/import_order.py")
    return reasons


def violations() -> list[Import]:
    """The imports that go against the order."""
    return [each for each in imports() if any(_within(each.module, name) for name in banned(each.room))]


def strangers() -> list[str]:
    """Rooms that the order does not name."""
    known = {f"{package}.{name}" for package, names in ORDER.items() for name in names} | set(ORDER)
    return sorted({each.room for each in imports()} - known - {f"{package}.__main__" for package in ORDER})


def _within(module: str, name: str) -> bool:
    return module == name or module.startswith(name + ".")


def settings() -> dict[Path, str]:
    """The ruff.toml of every room that is a folder, and of the packages themselves."""
    files = {}
    for package, names in ORDER.items():
        for room in [package, *(f"{package}.{name}" for name in names)]:
            folder = ROOT / SOURCES[package] / Path(*room.split("."))
            if folder.is_dir():
                up = "../" * len(folder.relative_to(ROOT).parts)
                lines = [f'"{name}".msg = "{reason}"\n' for name, reason in banned(room).items()]
                head = f'# Written by tests/support/import_order.py --write\nextend = "{up}pyproject.toml"\n\n'
                files[folder / "ruff.toml"] = head + "[lint.flake8-tidy-imports.banned-api]\n" + "".join(lines)
    return files


def report() -> str:
    """The order, each room with what it imports, and the violations."""
    known: dict[str, set[str]] = {}
    for each in imports():
        target = ".".join(each.module.split(".")[:2])
        if target.partition(".")[0] in SOURCES and target != each.room:
            known.setdefault(each.room, set()).add(target)
    lines = []
    for package, names in ORDER.items():
        lines.append(package)
        lines += [f"  {name:14} <- {', '.join(sorted(known.get(f'{package}.{name}', []))) or '-'}" for name in names]
    found = violations()
    return "\n".join([*lines, f"{len(found)} violations", *map(str, found)])


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        for file, text in settings().items():
            file.write_text(text, encoding="utf-8")
    sys.stdout.write(report() + "\n")
