"""What an installation and a frozen application are made of, and where they run, as lines of Markdown."""

from __future__ import annotations

from typing import Any

__all__ = ["frozen", "installed", "wheels"]


def installed(results: dict[str, Any]) -> list[str]:
    """What an installation brings, and what extras add to it."""
    lines = [f"`pip install .` brings {_weight(results)}."]
    lines += [f'`pip install ".[{name}]"` adds {_weight(extra)}.' for name, extra in results["extras"].items()]
    return lines


def _weight(facts: dict[str, Any]) -> str:
    packages = sorted(facts["packages"].items(), key=lambda item: -item[1]["bytes"])
    listed = ", ".join(f"{name} {found['bytes'] / 1e6:.1f}" for name, found in packages)
    megabytes = facts["total_bytes"] / 1e6
    places = 0 if megabytes >= 10 else 1
    return f"{megabytes:.{places}f} MB in {len(packages)} package{'s' * (len(packages) > 1)} (MB each): {listed}"


def frozen(results: dict[str, Any]) -> list[str]:
    """What each program weighs, how soon it writes, and what it was run without."""
    programs = results["programs"]
    rows = [
        f"| {name} | {found['bytes'] / 1e6:.0f} | {found['files']} | {found['seconds']:.2f} | "
        f"{found.get('peak_bytes', 0) / 1e6:.0f} |"
        for name, found in programs.items()
    ]
    python, folder = results["python"], programs["folder"]
    large = ", ".join(f"{name} {size / 1e6:.1f}" for name, size in folder["large_files"].items())
    return [
        "| program | MB | files | seconds until a token is written | peak memory, MB |",
        "|---|---|---|---|---|",
        *rows,
        f"| `python story.py`, not frozen | | | {python['seconds']:.2f} | {python.get('peak_bytes', 0) / 1e6:.0f} |",
        "",
        f"In the folder, MB: {large}. Each program wrote its text without {', without '.join(folder['without'])}.",
    ]


def wheels(results: dict[str, Any]) -> list[str]:
    """Where wheels of everything are found, a row for each system, and which Pythons were tried."""
    pythons = list(next(iter(results["resolved"]["neort"].values())))
    lines = [
        f"| | {' | '.join(results['resolved']['neort'])} |",
        "|---|" + "---|" * len(results["resolved"]["neort"]),
    ]
    for extra, systems in results["resolved"].items():
        cells = [_pythons([python for python in pythons if "why" not in row[python]]) for row in systems.values()]
        lines.append(f"| {'neort' if extra == 'neort' else f'`[{extra}]`'} | {' | '.join(cells)} |")
    tried = [each["python"] for each in results["installed"] if each.get("verified")]
    refused = [each["python"] for each in results["installed"] if "refused" in each]
    built = ", ".join(f"{name} {size / 1e6:.1f}" for name, size in results["built"].items())
    return [
        *lines,
        "",
        f"Built, MB: {built}. The wheel was installed, verified and asked for a text, the same one, on Python "
        f"{', '.join(tried)}" + (f"; pip refuses it on {', '.join(refused)}." if refused else "."),
    ]


def _pythons(found: list[str]) -> str:
    """The versions as a range, where nothing is missing between them."""
    if not found:
        return "none"
    minors = [int(version.partition(".")[2]) for version in found]
    if len(found) > 1 and minors == list(range(minors[0], minors[-1] + 1)):
        return f"{found[0]} to {found[-1]}"
    return ", ".join(found)
