"""`[routes]`: addresses that no LAN has, announced through a routing daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator

from hasyncd.config_section import Network, Section, Some
from hasyncd.config_values import read_absolute_path, read_device_name


class Routes(Section):
    """Prefixes whose routes are in the kernel while this node is primary, for a routing daemon to redistribute."""

    driver: Literal["frr"]
    """What redistributes kernel routes here, and can be asked what it has told its neighbours."""
    prefixes: Some[Network]
    """What is announced; each holds a VIP or a public address of a rule, and no LAN of the pair."""
    device: Annotated[str, BeforeValidator(read_device_name)] = "hs-routes"
    """The device that the routes lead into, for the daemon's filters."""
    vtysh: Annotated[Path, BeforeValidator(read_absolute_path)] = Path("/usr/bin/vtysh")
    """The program that asks it."""
    vty_socket: Annotated[Path, BeforeValidator(read_absolute_path)] | None = None
    """The directory of FRR's sockets where it is not the usual one."""
