"""Every error that neort raises on purpose, by its cause: whoever catches one knows whose turn it is.

    NeortError
    ├── PromptError (also ValueError)         the prompt: empty, too long, or with tokens out of range
    ├── ConfigError (also ValueError)         an option whose value is out of range, or contradicts another
    ├── ArgumentTypeError (also TypeError)    an argument of the wrong type, or an option that does not exist
    ├── BusyError (also RuntimeError)         no slot or no room now: the same call may succeed later
    ├── StorageError (also OSError)           the disk is full, or a file or folder cannot be written
    ├── UnsupportedError (also RuntimeError)  this onnxruntime or this machine cannot do it
    ├── BundleError (also ValueError)         a bundle that is missing, damaged, tampered with or of another version
    ├── TokenizerError (also ValueError)      a tokenizer file that the runtime cannot reproduce exactly
    ├── PrefixError (also ValueError)         a prefix file that is damaged or of another model; or a closed prefix
    ├── LogitsError (also ArithmeticError)    the model produced NaN or infinite logits
    ├── OutOfMemoryError (also MemoryError)   the system gives no memory for the weights, the cache or a run
    ├── HubError (also ConnectionError)       `neort pull`: a hub or a server is not reached, or does not hand it out
    ├── EngineError (also RuntimeError)       a run of the model failed, the process was forked in one, or workers end
    └── MissingExtraError (also ImportError)  an optional part of neort that is not installed

A BundleError or PrefixError for something that is not there is a FileNotFoundError, too.

Each message names the value, the limit and the remedy, so it can be shown to a user as it is.
"""

from __future__ import annotations

__all__ = [
    "ArgumentTypeError",
    "BundleError",
    "BusyError",
    "ConfigError",
    "EngineError",
    "HubError",
    "LogitsError",
    "MissingExtraError",
    "NeortError",
    "OutOfMemoryError",
    "PrefixError",
    "PromptError",
    "StorageError",
    "TokenizerError",
    "UnsupportedError",
]


class NeortError(Exception):
    """Base class: catching it catches every error that neort raises on purpose."""


class PromptError(NeortError, ValueError):
    """A prompt that is empty, longer than the context, or holds token ids outside the vocabulary."""


class ConfigError(NeortError, ValueError):
    """An option whose value is outside its range, or that contradicts another."""


class ArgumentTypeError(NeortError, TypeError):
    """An argument of the wrong type, or an option that does not exist."""


class BusyError(NeortError, RuntimeError):
    """No slot or no room in the cache now; once a running sequence has ended, the same call may succeed."""


class SystemCallError(OSError):
    """A mixin: what the system said, told in one sentence of neort's."""

    def __init__(self, sentence: str, cause: OSError | None = None) -> None:
        """``cause`` lends its ``errno``, ``strerror`` and ``filename``."""
        super().__init__(sentence)
        if cause is not None:
            self.errno, self.strerror, self.filename = cause.errno, cause.strerror, cause.filename

    def __str__(self) -> str:
        return str(self.args[0])


class StorageError(SystemCallError, NeortError):
    """A file or folder that cannot be written: the disk is full, or permission is lacking."""


class UnsupportedError(NeortError, RuntimeError):
    """Something that the installed onnxruntime, or this machine, cannot do."""


class BundleError(NeortError, ValueError):
    """A bundle that is missing, damaged, tampered with, or of another format version."""


class TokenizerError(NeortError, ValueError):
    """A tokenizer file that the runtime cannot reproduce exactly."""


class PrefixError(NeortError, ValueError):
    """A prefix file that cannot be read, is damaged, or belongs to another model; or a closed prefix."""


class LogitsError(NeortError, ArithmeticError):
    """The model produced NaN or infinite logits."""


class OutOfMemoryError(NeortError, MemoryError):
    """The system gives no memory for the weights, the cache or a run; with less to do the same model may go on."""


class HubError(NeortError, ConnectionError):
    """A hub or a server that cannot be reached, or that does not hand out a bundle; only `neort pull` asks one."""


class EngineError(NeortError, RuntimeError):
    """A run of the model failed, the process was forked in the middle of one, or worker processes do not last."""


class MissingExtraError(NeortError, ImportError):
    """An optional part of neort that is not installed."""
