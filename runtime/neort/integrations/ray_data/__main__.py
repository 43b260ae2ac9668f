"""``python -m neort.integrations.ray_data``."""

from __future__ import annotations

from ...errors import MissingExtraError

if __name__ == "__main__":
    try:
        from .command import main
    except MissingExtraError as error:
        raise SystemExit(f"neort.integrations.ray_data: {error}") from None
    raise SystemExit(main())
