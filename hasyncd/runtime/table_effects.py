"""Performs what the core wants of the table alone, and answers it."""

from __future__ import annotations

from collections.abc import Callable

from hasyncd.core import effects as fx
from hasyncd.core.node import Node
from hasyncd.core.types import Findings
from hasyncd.datapath.packet import Engine
from hasyncd.runtime.clock import now_ns


class TableEffects:
    """`feed` takes the effects of answers."""

    def __init__(self, node: Node, engine: Engine, feed: Callable[[list[fx.Effect]], None]) -> None:
        self._node, self._engine, self._feed = node, engine, feed

    def perform(self, effect: fx.TableEffect) -> None:
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
