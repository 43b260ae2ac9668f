"""Ray and pyarrow, with a sentence in the place of a traceback where they are missing."""

from __future__ import annotations

from ...errors import MissingExtraError
from ..ray_settings import keep_quiet

keep_quiet()
try:
    import pyarrow as pa
    import ray
    import ray.data
except ImportError as error:
    raise MissingExtraError(
        f"Ray Data cannot be imported ({error}); install it by: pip install 'neort[ray]'"
    ) from error

__all__ = ["pa", "ray"]
