"""``python -m neort_export.training``: see `command`."""

from .command import main

raise SystemExit(main())
