"""`drill --report`: results as one HTML page."""

from __future__ import annotations

from hasyncd.lab.page.document import page
from hasyncd.lab.page.rows import read_rows

__all__ = ["page", "read_rows"]
