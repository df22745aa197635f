"""Performs what the core says about forwarding and answering: on the engine, and as routes (`[routes]`)."""

from __future__ import annotations

from hasyncd.config import Settings
from hasyncd.core import effects as fx
from hasyncd.datapath.packet import Engine
from hasyncd.runtime.clock import now_ns
from hasyncd.runtime.route_driver import RouteDriver


class DataPath:
    def __init__(self, settings: Settings, engine: Engine, routes: RouteDriver | None) -> None:
        self._sync, self._engine, self._routes = settings.sync, engine, routes
        self._relays_until_ns = 0

    @property
    def relays(self) -> bool:
        """Stragglers are still passed on to the new owner."""
        return now_ns() < self._relays_until_ns

    def perform(
        self, effect: fx.Arm | fx.RenewLease | fx.Disarm | fx.AnnounceVips | fx.SetCommit, generation: int
    ) -> None:
        match effect:
            case fx.Arm():
                self._relays_until_ns = 0
                self._engine.arm(now_ns(), effect.lease_until_ns)
                if self._routes:
                    self._routes.announce(generation)
            case fx.RenewLease():
                self._engine.set_lease(effect.lease_until_ns)
            case fx.Disarm():
                self._disarm(effect.relay_until_ns)
            case fx.AnnounceVips():
                self._engine.announce()
            case fx.SetCommit():
                self._engine.set_commit(
                    self._sync.commit if effect.hold else "none",
                    self._sync.commit_timeout_ms * 1_000_000,
                    self._sync.on_commit_timeout == "fail_open",
                )

    def _disarm(self, relay_until_ns: int) -> None:
        self._relays_until_ns = relay_until_ns
        if relay_until_ns:
            self._engine.hand_over(relay_until_ns)
        else:
            self._engine.disarm()
        if self._routes:
            self._routes.withdraw(max(0, relay_until_ns - now_ns()) / 1e9)
