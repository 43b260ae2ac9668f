"""``python -m neort_export.training``: see `train`."""

from .train import main

raise SystemExit(main())
