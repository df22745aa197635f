"""The heartbeats' ways over the service LANs, as configured and as this machine has them."""

from __future__ import annotations

from hasyncd.config import Settings
from hasyncd.datapath.interfaces import Interface, InterfaceError
from hasyncd.runtime.heartbeat_path import Route


def lan_routes(settings: Settings, inside: Interface, outside: Interface) -> list[Route]:
    """The paths over the service LANs, between the machines' own addresses. Raises InterfaceError."""
    routes = []
    for name, interface in (("inside", inside), ("outside", outside)):
        lan = settings.peer.lan(name)
        if lan is None:
            continue
        if lan.listen.address not in [address.ip for address in interface.addresses]:
            present = ", ".join(map(str, interface.addresses)) or "none"
            raise InterfaceError(
                f"peer.{name}.listen: {interface.name} has no address {lan.listen.address} (present: {present})"
            )
        routes.append(Route(name, lan.listen, lan.address, interface.name))
    return routes
