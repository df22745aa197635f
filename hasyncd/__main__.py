"""`python -m hasyncd` is `hasyncd`."""

from __future__ import annotations

import sys

from hasyncd.cli import main

if __name__ == "__main__":
    sys.exit(main())
