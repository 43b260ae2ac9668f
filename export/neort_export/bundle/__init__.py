"""The files of a bundle and the folder that they are written to."""

from __future__ import annotations

from .card import common_figures, renew_card, write_card
from .config_files import write_configs
from .manifest import CARD, model_section, write_json, write_manifest
from .portable import write_portable
from .space import check_space, disk_error
from .tokenizer import write_tokenizer
from .weights_file import external_weights, write_graph

__all__ = [
    "CARD",
    "check_space",
    "common_figures",
    "disk_error",
    "external_weights",
    "model_section",
    "renew_card",
    "write_card",
    "write_configs",
    "write_graph",
    "write_json",
    "write_manifest",
    "write_portable",
    "write_tokenizer",
]
