"""A graph whose large weights are arrays of this process, not places in a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from .options import open_session, session_options

__all__ = ["DetachedSession"]


class DetachedSession:
    """A session that reads its weights where they lie in memory; they live as long as it does."""

    def __init__(self, model: bytes, weights: Mapping[str, NDArray[Any]], num_threads: int) -> None:
        """``model`` names each of ``weights`` as external data, in a file that need not exist."""
        self._weights = dict(weights)
        self._values = [ort.OrtValue.ortvalue_from_numpy(array) for array in self._weights.values()]
        options = session_options(num_threads, model)
        options.add_external_initializers(list(self._weights), self._values)
        options.enable_cpu_mem_arena = False  # it would keep what the largest run took
        self._session: Any = open_session(model, options)

    def run(self, output: str, feeds: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Return one output of a run."""
        rows: NDArray[np.float32] = self._session.run([output], dict(feeds))[0]
        return rows

    def io_binding(self) -> Any:
        """Return a binding of inputs and outputs to memory, for `run_bound`."""
        return self._session.io_binding()

    def run_bound(self, binding: Any) -> None:
        """Run with inputs and outputs where a binding has them."""
        self._session.run_with_iobinding(binding)
