"""What processes of a test do, in a module that they can import."""

from __future__ import annotations

import os
import signal
import sys

from neort.workers import Parent

__all__ = ["tell_about_itself"]


def tell_about_itself(parent: Parent, value: int) -> None:
    """Say on which CPUs it runs, and what it was given; then wait for a message, and end by its words."""
    messages = parent.messages()
    cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    parent.tell(sorted(cpus), ignored, value)
    sys.stdout.write("this goes to standard error\n")
    (what,) = messages.get()
    if what == "raise":
        raise ValueError("as it was told")
    raise SystemExit(what)
