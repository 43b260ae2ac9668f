"""What comes before the imports of numpy and onnxruntime, where the process is one of neort's commands.

They take half a second, in which Ctrl-C ends the process with its exit status and no traceback. And standard streams
that are closed are connected to nothing, so that no file which is opened later takes their number, and with it what C
libraries print. Where neort is a library, none of this happens.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import threading

__all__ = ["end_at_once", "is_command"]

SCRIPTS = r"neort(-export)?(-script)?(\.(exe|pyw?))?"
MODULES = r"(-\w*m)?neort(_export)?(\.\w+)*"  # python -m MODULE, or -mMODULE


def is_command() -> bool:
    """Whether the process was started as `neort`, `neort-export`, or by `python -m` as one of their modules."""
    arguments = getattr(sys, "argv", None) or [""]
    if arguments[0] == "-m":  # as long as Python looks for the module
        return re.fullmatch(MODULES, sys.orig_argv[-len(arguments)]) is not None
    return re.fullmatch(SCRIPTS, os.path.basename(arguments[0])) is not None


def end_at_once(number: int, _: object) -> None:
    """A signal's handler as long as there is nothing to clean up."""
    os._exit(128 + number)


def _start() -> None:
    for handle in (0, 1, 2):
        try:
            os.fstat(handle)
        except OSError:
            with contextlib.suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # which takes the lowest number that is free
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end_at_once)


if is_command():
    _start()
