"""``neort-export`` as ``python -m neort_export.cli``."""

from .main import main

raise SystemExit(main())
