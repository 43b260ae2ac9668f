"""Sphinx makes a site of this folder: python -m sphinx -W --keep-going docs build/site"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), *(str(HERE.parent / root) for root in ("runtime", "export", "models"))]

from neort import __version__ as version  # noqa: E402  (after its place on the path)

project, author = "neort", "the authors of neort"
copyright = f"{author}, Apache-2.0"
extensions = ["myst_parser", "sphinx.ext.autodoc", "links"]  # the last is links.py

myst_heading_anchors = 3  # links to headings, which are written as elsewhere in Markdown

default_role = "py:obj"  # `name` in a docstring is a link where there is such a name, ``name`` never is
autodoc_default_options = {"members": True, "member-order": "bysource", "exclude-members": "__init__, __new__"}
EXPORTS = "torch transformers huggingface_hub onnx onnx_ir onnxscript safetensors tqdm yaml"  # need not be installed
autodoc_mock_imports = EXPORTS.split()
ALIASES = "AllowedTokensFunction CacheType FinishReason Ids Logits Overflow Prompt Prompts"  # are not spelled out
autodoc_type_aliases = {name: name for name in ALIASES.split()}
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = f"neort {version}"
html_copy_source = False
html_show_sphinx = False
