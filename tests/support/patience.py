"""How long a test waits for another thread or process before it takes it for stuck."""

from __future__ import annotations

PATIENCE = 600  # seconds; guards against hanging only: no test may pass or fail by how fast a machine is
