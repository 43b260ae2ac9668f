"""Files of prompts, a record at a time: read, run in parallel, and written so that a killed run can go on."""

from __future__ import annotations

from .figures import FIGURES, figures_of
from .pool import in_order
from .processes import answers_of_workers
from .records import INPUT_FORMATS, InputFormat, Record, format_of_file, read_records
from .results import RESULT_KEYS, Result, answers
from .store import ResultFile, facts_of
from .worker import Job

__all__ = [
    "FIGURES",
    "INPUT_FORMATS",
    "RESULT_KEYS",
    "InputFormat",
    "Job",
    "Record",
    "Result",
    "ResultFile",
    "answers",
    "answers_of_workers",
    "facts_of",
    "figures_of",
    "format_of_file",
    "in_order",
    "read_records",
]
