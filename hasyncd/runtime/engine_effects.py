"""Performs what the core wants of the engine alone: its table, its lease, its announcements."""

from __future__ import annotations

from collections.abc import Callable

from hasyncd.config import Settings
from hasyncd.core import effects as fx
from hasyncd.core.node import Node
from hasyncd.core.types import Findings
from hasyncd.datapath.packet import Engine
from hasyncd.runtime.clock import now_ns

DataPathEffect = fx.Arm | fx.RenewLease | fx.Disarm | fx.AnnounceVips | fx.ProbeVips | fx.SetCommit


class EngineEffects:
    """`feed` takes the effects of answers."""

    def __init__(
        self, settings: Settings, node: Node, engine: Engine, feed: Callable[[list[fx.Effect]], None]
    ) -> None:
        self._settings, self._node, self._engine, self._feed = settings, node, engine, feed
        self._relays_until_ns = 0

    @property
    def relays(self) -> bool:
        """Whether stragglers of a hand-over still find their way through this process."""
        return now_ns() < self._relays_until_ns

    def perform_on_table(self, effect: fx.TableEffect) -> None:
        """What is asked of the table is answered before this returns."""
        node, engine = self._node, self._engine
        match effect:
            case fx.ResetTable():
                engine.reset(effect.seed)
            case fx.DigestBuckets():
                self._feed(node.receive_bucket_digests(engine.bucket_digests(effect.capacity), now_ns()))
            case fx.CompareBuckets():
                self._feed(node.receive_suspects(*engine.compare_buckets(effect.digests), now_ns()))
            case fx.BeginSync():
                engine.begin_sync(effect.suspects, effect.capacity)
            case fx.EndSync():
                engine.end_sync()
                findings = Findings(*engine.sync_findings())
                self._feed(node.receive_sync_swept(*engine.digest(), findings, now_ns()))
            case fx.InstallRecords():
                installed, rejection = engine.install(effect.records, now_ns())
                self._feed(node.receive_installed(installed, rejection, *engine.digest(), now_ns()))

    def perform_on_data_path(self, effect: DataPathEffect) -> None:
        """What packets feel."""
        match effect:
            case fx.Arm():
                self._relays_until_ns = 0
                self._engine.arm(now_ns(), effect.lease_until_ns)
            case fx.RenewLease():
                self._engine.set_lease(effect.lease_until_ns)
            case fx.Disarm():
                self._relays_until_ns = effect.relay_until_ns
                if effect.relay_until_ns:
                    self._engine.hand_over(effect.relay_until_ns)
                else:
                    self._engine.disarm()
            case fx.AnnounceVips():
                self._engine.announce()
            case fx.ProbeVips():
                self._engine.probe_vips()
            case fx.SetCommit():
                sync = self._settings.sync
                self._engine.set_commit(
                    sync.commit if effect.hold else "none",
                    sync.commit_timeout_ms * 1_000_000,
                    sync.on_commit_timeout == "fail_open",
                )
