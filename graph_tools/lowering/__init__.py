"""Bodies in standard operators, one file per family; importing the package fills the table."""

from __future__ import annotations
