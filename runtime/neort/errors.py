"""Every error that neort raises on purpose.

    NeortError
    ├── BundleError (also ValueError)      a bundle that is missing, damaged, tampered with, or not for this onnxruntime
    ├── PromptError (also ValueError)      a prompt that is empty, too long, or holds tokens out of range
    ├── PrefixError (also ValueError)      a prefix file that is damaged, of another model, or cannot be written
    ├── ConfigError (also ValueError)      a generation option with a value that makes no sense
    ├── TokenizerError (also ValueError)   a tokenizer file that the runtime cannot reproduce exactly
    ├── LogitsError (also ArithmeticError) the model produced NaN or infinite logits
    └── MissingExtraError (also ImportError) an optional part of neort that is not installed

Each message names the value, the limit and the remedy, so it can be shown to a user as it is.
"""

from __future__ import annotations

__all__ = [
    "BundleError",
    "ConfigError",
    "LogitsError",
    "MissingExtraError",
    "NeortError",
    "PrefixError",
    "PromptError",
    "TokenizerError",
]


class NeortError(Exception):
    """Base class: catching it catches every error that neort raises on purpose."""


class BundleError(NeortError, ValueError):
    """A bundle that is missing, damaged, tampered with, of another format version, or not for this onnxruntime."""


class PromptError(NeortError, ValueError):
    """A prompt that is empty, longer than the context, or holds token ids outside the vocabulary."""


class PrefixError(NeortError, ValueError):
    """A prefix file that cannot be read or written, is damaged, or belongs to another model; or a closed prefix."""


class ConfigError(NeortError, ValueError):
    """A generation option whose value is outside its range."""


class TokenizerError(NeortError, ValueError):
    """A tokenizer file that the runtime cannot reproduce exactly."""


class LogitsError(NeortError, ArithmeticError):
    """The model produced NaN or infinite logits."""


class MissingExtraError(NeortError, ImportError):
    """An optional part of neort that is not installed."""
