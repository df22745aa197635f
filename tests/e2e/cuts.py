"""Cuts that no carrier shows: frames are dropped where a cable would have been unplugged."""

from __future__ import annotations

from tests.datapath.namespaces import Namespace
from tests.e2e.world import World

_RULES = (
    "add table netdev cuts",
    "add chain netdev cuts {hook}-{port} {{ type filter hook {hook} device {port} priority 0; policy drop; }}",
)


def _drop(namespace: Namespace, port: str, hook: str) -> None:
    for rule in _RULES:
        namespace.run("nft", rule.format(port=port, hook=hook))


def cut_sync(world: World, *deaf: str) -> None:
    """What these gateways (default: both) would receive over the sync link is lost."""
    for gateway in (world.a, world.b):
        if gateway.name in deaf or not deaf:
            _drop(gateway.namespace, "sync", "ingress")


def cut_lan(world: World, side: str, gateway: str, *hooks: str) -> None:
    """A gateway's port of a LAN's bridge: what comes from it (`ingress`), goes to it (`egress`), or both."""
    port = f"{gateway[-1]}-{'in' if side == 'inside' else 'out'}"
    for hook in hooks or ("ingress", "egress"):
        _drop(world.lan, port, hook)


def heal(world: World) -> None:
    for namespace in (world.lan, world.a.namespace, world.b.namespace):
        namespace.run("nft", "add table netdev cuts; delete table netdev cuts")
