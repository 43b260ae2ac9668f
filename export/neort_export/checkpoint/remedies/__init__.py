"""What a checkpoint's folder holds instead of a model, and the commands that mend it."""

from __future__ import annotations

from .rewriting import PEFT, Renaming, rewrite_command
from .without import refuse_adapter_beside, without_config, without_weights

__all__ = ["PEFT", "Renaming", "refuse_adapter_beside", "rewrite_command", "without_config", "without_weights"]
