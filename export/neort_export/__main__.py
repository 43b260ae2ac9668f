"""``neort-export`` as ``python -m neort_export``."""

from .cli import main

raise SystemExit(main())
