"""What conf.py adds to Sphinx: links that follow from how the pages and docstrings are written anyway.

- ``neort.load`` in code type is a link to the reference, and so is an error that a docstring names in its prose.
- A link whose text is a page's file name, as it reads well in a repository, has the page's title on the site.
- Types of signatures have their public names.
- The sections that docstrings have besides their prose, such as ``Raises:``, are lists of terms.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform

import neort
import neort_export  # noqa: TID251

PUBLIC = {package.__name__: set(package.__all__) for package in (neort, neort_export)}
NAME = re.compile(r"(neort|neort_export)\.(\w+)(\.\w+)*(\(.*\))?")
ERROR = re.compile(r"(?<![`\w.])\w+(?:Error|Warning)\b(?!`)")
ALIAS = re.compile(r"TypeAliasForwardRef\('(\w+)'\)")
SECTION = re.compile(r"(Attributes|Options|Raises):")
ENTRY = re.compile(r" {4}(\S.*?): (.*)")
PAGE = re.compile(r"(docs/)?\w+\.md")
LINKS = (nodes.reference, addnodes.pending_xref)


class LinkNames(SphinxTransform):
    """Makes a public name in code type a link to its place in the reference."""

    default_priority = 300

    def apply(self, **_: Any) -> None:
        for literal in list(self.document.findall(nodes.literal)):
            found = NAME.fullmatch(literal.astext())
            if found is None or found[2] not in PUBLIC[found[1]] or isinstance(literal.parent, LINKS):
                continue
            target = literal.astext().partition("(")[0]
            link = addnodes.pending_xref(
                "", refdomain="py", reftype="obj", reftarget=target, refdoc=self.env.docname, refwarn=False
            )
            literal.replace_self(link)
            link.append(literal)


class NamePages(SphinxTransform):
    """Gives a link whose text is a page's file name the page's title."""

    default_priority = 300

    def apply(self, **_: Any) -> None:
        for link in self.document.findall(addnodes.pending_xref):
            if link.get("refdomain") == "doc" and PAGE.fullmatch(link.astext()):
                link.clear()
                link["refexplicit"] = False
                link.append(nodes.inline())


def public_name(app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, content: nodes.TextElement) -> Any:
    """Find the public name of what the code calls by a module that is nobody's business."""
    name = node["reftarget"].rpartition(".")[2]
    if node["refdomain"] != "py":
        return None
    for package, names in PUBLIC.items():
        if name in names:
            domain = env.get_domain("py")
            return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", f"{package}.{name}", node, content)
    return None


def name_aliases(app: Sphinx, what: str, name: str, it: object, options: object, *parts: str | None) -> Any:
    """Write the names of aliases where Sphinx writes what stands for them. ``parts`` are arguments and result."""
    return tuple(part and ALIAS.sub(r"\1", part) for part in parts)


def list_sections(app: Sphinx, what: str, name: str, it: object, options: object, lines: list[str]) -> None:
    """Make lists of terms of a docstring's sections."""
    written: list[str] = []
    inside = False
    for line in lines:
        inside = (inside and (line.startswith("    ") or not line)) or SECTION.fullmatch(line) is not None
        entry = ENTRY.fullmatch(line)
        if SECTION.fullmatch(line):
            written += [f".. rubric:: {line[:-1]}", ""]
        elif inside and entry:
            term = f"``{entry[1]}``" if entry[1].islower() else entry[1]
            written += ["", term, f"   {entry[2]}"]
        else:
            written.append(f"   {line.strip()}" if inside else line)
    lines[:] = written


def link_errors(app: Sphinx, what: str, name: str, it: object, options: object, lines: list[str]) -> None:
    """Make links of the errors and warnings that a docstring names in its prose."""
    public = set().union(*PUBLIC.values())
    for i, line in enumerate(lines):
        lines[i] = ERROR.sub(lambda found: f":py:exc:`{found[0]}`" if found[0] in public else found[0], line)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register all this."""
    app.add_transform(LinkNames)
    app.add_transform(NamePages)
    app.connect("missing-reference", public_name)
    app.connect("autodoc-process-signature", name_aliases)
    app.connect("autodoc-process-docstring", list_sections, priority=400)
    app.connect("autodoc-process-docstring", link_errors)
    return {"parallel_read_safe": True}
