"""Every column of every file in ray_results/, named once with its meaning and unit; `python -m raybridge.results.schema`.

It hands out FILES, and the lists of columns that other code goes by.
"""

from raybridge.results.schema.column import Column, File, described
from raybridge.results.schema.records import RECORDS
from raybridge.results.schema.tables import (
    ATTENTION_BINS,
    CONDITIONING,
    COSTS,
    EVAL_COLUMNS,
    EVAL_KEYS,
    LENGTHS,
    MEANS,
    TABLES,
    TEXTS,
    TIMES,
)

__all__ = [
    "ATTENTION_BINS",
    "CONDITIONING",
    "COSTS",
    "EVAL_COLUMNS",
    "EVAL_KEYS",
    "FILES",
    "LENGTHS",
    "MEANS",
    "TEXTS",
    "TIMES",
    "Column",
    "File",
    "described",
]

FILES = (*TABLES, *RECORDS)
