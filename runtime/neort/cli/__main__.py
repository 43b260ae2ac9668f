"""``python -m neort.cli`` is ``neort``, too."""

from .main import main

raise SystemExit(main())
