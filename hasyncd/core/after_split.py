"""The inputs of a node that was split from its peer: what `OfferFlows` and `MergeFlows` answer. proto/pair.md §7a.

`node.py` is the interface on top of it; its rules hold here. `merge.py` is what decides.
"""

from __future__ import annotations

from hasyncd.core.conduct import Conduct
from hasyncd.core.effects import Effect
from hasyncd.core.replication import Phase, StreamRefused
from hasyncd.core.types import MergeFindings
from hasyncd.core.wire import Rejected


class AfterSplit(Conduct):
    def receive_offer_finished(self, now_ns: int) -> list[Effect]:
        """`OfferFlows` was performed: all of it is on the stream."""
        effects = self._wake(now_ns)
        if self._receiver.phase is not Phase.BEGIN:
            return effects
        self._receiver.go_on_offering(now_ns)
        return effects + self._offering.finish() + self._settle(now_ns)

    def receive_merged(
        self, count: int, found: MergeFindings, rejection: str | None, now_ns: int
    ) -> list[Effect]:
        """`MergeFlows` was performed: how many flows were judged, what became of them, and what stopped it. Comes with
        fresh numbers of the log (rule 4), as no other answer."""
        effects = self._wake(now_ns)
        try:
            effects += self._sender.merged(count, found, rejection, self._log, now_ns)
        except Rejected as rejected:
            effects += self._reject_stream(rejected.name, now_ns)
        except StreamRefused as refused:
            effects += self._refuse_peer(refused, now_ns)
        return effects + self._settle(now_ns)

    def encode_offer(self, count: int, records: bytes, now_ns: int) -> bytes:
        """One whole OFFER frame."""
        self._receiver.go_on_offering(now_ns)
        return self._offering.encode(count, records)
