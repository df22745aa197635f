"""Performs what follows a split: the loser's offer onto the stream, the winner's merge (proto/pair.md §7a).

Batches move as the pump's do, one a turn of the event loop, each when write(2) has taken the one before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from hasyncd.core import effects as fx
from hasyncd.core.node import Node
from hasyncd.core.types import MergeFindings
from hasyncd.datapath.packet import Engine
from hasyncd.runtime.clock import now_ns
from hasyncd.runtime.delta_stream import DeltaStream

OFFER_BYTES: Final = 65_536
"""Of records in one frame: proto/sync.md §10."""

ReunionEffect = fx.OfferFlows | fx.EndOffer | fx.MergeFlows | fx.SetSolo


class Reunion:
    """`feed` takes answers' effects; `tell_log_state` is node's rule 4; `upper`: which half of the ports is ours."""

    def __init__(
        self,
        node: Node,
        engine: Engine,
        feed: Callable[[list[fx.Effect]], None],
        tell_log_state: Callable[[], None],
        *,
        upper: bool,
    ) -> None:
        self._node, self._engine = node, engine
        self._feed, self._tell_log_state = feed, tell_log_state
        self._upper = upper
        self._loop = asyncio.get_running_loop()
        self._stream: DeltaStream | None = None
        self._scheduled = False

    def perform(self, effect: ReunionEffect, stream: DeltaStream | None) -> None:
        match effect:
            case fx.OfferFlows():
                self._engine.start_offer()
                self._stream = stream
                self._continue_soon()
            case fx.EndOffer():
                self._engine.end_offer()
            case fx.MergeFlows():
                count, found, rejection = self._engine.merge(effect.records, now_ns())
                self._tell_log_state()
                self._feed(self._node.receive_merged(count, MergeFindings(*found), rejection, now_ns()))
            case fx.SetSolo():
                self._engine.set_solo(effect.solo, self._upper)

    def stop(self) -> None:
        """The stream has ended, and the offer with it."""
        self._stream = None

    def drained(self) -> None:
        """write(2) has taken what was queued."""
        if self._stream is not None:
            self._continue_soon()

    def _continue_soon(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._continue)

    def _continue(self) -> None:
        self._scheduled = False
        stream = self._stream
        if stream is None or stream.backlog:
            return  # `drained` comes back here
        count, records, finished = self._engine.next_offer(OFFER_BYTES, now_ns())
        if count:
            stream.write(self._node.encode_offer(count, records, now_ns()))
        if not finished:
            self._continue_soon()
            return
        self._stream = None
        self._tell_log_state()
        self._feed(self._node.receive_offer_finished(now_ns()))
