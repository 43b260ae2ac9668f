"""``neort`` as ``python -m neort.cli``."""

from .main import main

raise SystemExit(main())
