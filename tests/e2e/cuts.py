"""The lab's cuts (`hasyncd/lab/faults.py`) in the small world of `world.py`."""

from __future__ import annotations

from hasyncd.lab import faults
from tests.e2e.world import World


def cut_sync(world: World, *deaf: str) -> None:
    """What these gateways (default: both) would receive over the sync link is lost."""
    for gateway in (world.a, world.b):
        if gateway.name in deaf or not deaf:
            faults.drop(gateway.namespace.name, "sync", faults.FROM)


def cut_lan(world: World, side: str, gateway: str, *hooks: str) -> None:
    """A gateway's port of a LAN's bridge: what comes from it (`ingress`), goes to it (`egress`), or both."""
    port = f"{gateway[-1]}-{'in' if side == 'inside' else 'out'}"
    for hook in hooks or faults.BOTH:
        faults.drop(world.lan.name, port, hook)


def heal(world: World) -> None:
    for namespace in (world.lan, world.a.namespace, world.b.namespace):
        faults.heal(namespace.name)
