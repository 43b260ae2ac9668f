"""A WSGI application for servers that load it once and fork their workers, which then share the weights.

    pip install neort gunicorn
    gunicorn app:app                     # gunicorn.conf.py, beside this file, says how
    curl 127.0.0.1:8000 --data "The captain said"

NEORT_BUNDLE names the folder of a bundle; without it the model is the one that comes with neort.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import neort

LONGEST = 4096  # bytes of a prompt

# One thread for each worker: a fork has none of its parent's other threads, and would open the graph anew
model = neort.load(os.environ.get("NEORT_BUNDLE"), num_threads=1)


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Answer with what follows on the body of a request."""
    text = environ["wsgi.input"].read(LONGEST).decode("utf-8", "replace")
    try:
        status, answer = "200 OK", model.generate(text, max_new_tokens=32, do_sample=False).text
    except neort.PromptError as error:
        status, answer = "422 Unprocessable Content", str(error)
    start_response(status, [("Content-Type", "text/plain; charset=utf-8"), ("X-Worker", str(os.getpid()))])
    return [answer.encode()]
