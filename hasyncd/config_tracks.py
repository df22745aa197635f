"""`[fitness]` and `[[track]]`: by what a machine is judged, and when its primary gives way (proto/pair.md §4e)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from hasyncd.config_section import Address, Name, Section, Several, Unit
from hasyncd.config_values import read_interface_choice


class Fitness(Section):
    """When a primary hands over to a fitter peer (proto/pair.md §4e)."""

    margin: Annotated[int, Unit("of 1000")] = Field(100, ge=0, le=999)
    """By how much fitter the peer must be: a failed track costs its share of all weights."""
    hold_down_ms: int = Field(1000, ge=0, le=3_600_000)
    """For how long it must be; doubled by each hand-over of the last ten minutes."""


class Track(Section):
    """A check of this machine beside its two LANs."""

    name: Name
    """What the log and the status call it."""
    kind: Literal["interface", "gateway", "command"]
    """`interface`: is up; `gateway`: answers ARP or neighbour solicitation; `command`: ends with 0 in time."""
    interface: Annotated[str, BeforeValidator(read_interface_choice)] | None = None
    """Which one is to be up; of a gateway: `inside` or `outside`, the LAN it is on (default)."""
    address: Address | None = None
    """Of a gateway; none: any that a default route leads to."""
    command: Several[str] = ()
    """The program's absolute path and its arguments; no shell reads them."""
    interval_ms: int = Field(1000, ge=10, le=3_600_000)
    """Between two checks."""
    timeout_ms: int | None = Field(None, ge=1, le=3_600_000)
    """How long one check may take. Default: the interval, 500 ms at most."""
    rise: Annotated[int, Unit("checks")] = Field(3, ge=1, le=1000)
    """Good ones in a row that bring it back."""
    fall: Annotated[int, Unit("checks")] = Field(3, ge=1, le=1000)
    """Bad ones in a row that make it fail."""
    weight: Annotated[int, Unit("shares")] = Field(100, ge=1, le=1000)
    """What it counts among all that is tracked; a LAN that is down is not weighed: fitness is 0 then."""

    @property
    def timeout_s(self) -> float:
        return (self.timeout_ms or min(self.interval_ms, 500)) / 1000
