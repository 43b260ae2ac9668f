"""Files of prompts, a record at a time: read, run in parallel, and written so that a killed run can go on."""

from __future__ import annotations

from .figures import FIGURES, figures_of
from .pool import in_order
from .processes import answers_of_workers
from .records import INPUT_FORMATS, InputFormat, RawRecord, Record, format_of_file, raw_records, read_records
from .results import REFUSED, RESULT_KEYS, Result, answered, answers
from .store import ResultFile, check_facts, facts_of, line_of, locked, read_facts, write_facts
from .worker import Job

__all__ = [
    "FIGURES",
    "INPUT_FORMATS",
    "REFUSED",
    "RESULT_KEYS",
    "InputFormat",
    "Job",
    "RawRecord",
    "Record",
    "Result",
    "ResultFile",
    "answered",
    "answers",
    "answers_of_workers",
    "check_facts",
    "facts_of",
    "figures_of",
    "format_of_file",
    "in_order",
    "line_of",
    "locked",
    "raw_records",
    "read_facts",
    "read_records",
    "write_facts",
]
