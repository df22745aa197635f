"""`[fitness]` and `[[track]]`: by what a machine is judged, and when its primary gives way (proto/pair.md §4e)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from hasyncd.config_section import Address, Name, Section, Several
from hasyncd.config_values import read_interface_choice


class Fitness(Section):
    """When a primary hands over to a fitter peer (proto/pair.md §4e)."""

    margin: int = Field(100, ge=0, le=999)
    hold_down_ms: int = Field(1000, ge=0, le=3_600_000)


class Track(Section):
    """A check of this machine beside its two LANs."""

    name: Name
    kind: Literal["interface", "gateway", "command"]
    interface: Annotated[str, BeforeValidator(read_interface_choice)] | None = None
    """Which one is to be up; of a gateway: `inside` or `outside`, the LAN it is on (default)."""
    address: Address | None = None
    """Of a gateway; none: any that a default route leads to."""
    command: Several[str] = ()
    interval_ms: int = Field(1000, ge=10, le=3_600_000)
    timeout_ms: int | None = Field(None, ge=1, le=3_600_000)
    """Default: the interval, 500 ms at most."""
    rise: int = Field(3, ge=1, le=1000)
    fall: int = Field(3, ge=1, le=1000)
    weight: int = Field(100, ge=1, le=1000)

    @property
    def timeout_s(self) -> float:
        return (self.timeout_ms or min(self.interval_ms, 500)) / 1000
