"""`[metrics]`: where Prometheus finds this node's numbers."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator

from hasyncd.config_section import AsText, Section
from hasyncd.config_values import Endpoint, read_listener


class Metrics(Section):
    listen: Annotated[Endpoint, BeforeValidator(read_listener), AsText]
    """Where `GET /metrics` is answered over plain HTTP; whoever can reach it can read it. An address of the machine's
    own (never a VIP, for which the kernel has no ear), or 0.0.0.0 or [::] for every one. No default: without the table
    nothing listens."""
