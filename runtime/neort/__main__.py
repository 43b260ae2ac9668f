"""``python -m neort`` is ``neort``."""

from .cli import main

raise SystemExit(main())
