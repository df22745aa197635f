"""hasyncd: two Linux gateways that look like one which never forgets a flow."""

from __future__ import annotations

from typing import Final

__version__: Final = "0.1.0"
