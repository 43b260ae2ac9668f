"""The recipes of the models that neort has brought along, and of their drafts."""

from __future__ import annotations

from typing import Any

__all__ = ["NEEDS", "PRESETS"]

SAMPLING = {"temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.2}
"""For small models, whose most probable text repeats itself."""

BOOKS = {"vocab_size": 6144, "context": 1024, "window": 256, "batch_size": 64, "optimizer": "muon", **SAMPLING}
BOOKS_SHAPE = {"hidden_size": 320, "num_layers": 8, "num_heads": 5}

PRESETS: dict[str, dict[str, Any]] = {
    "neo-mini": {"minutes": 50.0},
    "neo-books-first": {
        **BOOKS,
        **BOOKS_SHAPE,
        "learning_rate": 5e-3,
        "matrix_rate": 0.03,
        "dropout": 0.05,
        "steps": 16_800,
    },
    "neo-books-teacher": {
        **BOOKS,
        "hidden_size": 640,
        "num_layers": 8,
        "num_heads": 10,
        "learning_rate": 5e-3,
        "matrix_rate": 0.03,
        "dropout": 0.1,
        "steps": 4_330,
    },
    "neo-books": {
        **BOOKS,
        **BOOKS_SHAPE,
        "learning_rate": 2.5e-3,
        "matrix_rate": 0.015,
        "steps": 7_210,
    },
    "neo-books-draft": {
        **BOOKS,
        "hidden_size": 128,
        "num_layers": 2,
        "num_heads": 2,
        "learning_rate": 6e-3,
        "matrix_rate": 0.03,
        "weight_decay": 0.02,
        "steps": 6_060,
    },
}
"""Each recipe's options where they are not the command's defaults."""

NEEDS = {"neo-books": ("init_from", "teacher"), "neo-books-draft": ("teacher",)}
"""Options without which a recipe is another one: docs/training.md has the commands."""
