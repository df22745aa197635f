"""After a split: the loser's offer and what the winner makes of it. proto/pair.md §7a, proto/sync.md §7a.

1. `Offering` is the loser's: whether there is an offer to make, and HELLO_REPLY, which waits for its end.
2. `Merging` is the winner's: batches that are with the table, HELLO_REPLY, which waits for the last, and the counts.
3. Flows themselves never come here: the engine packs them, a frame carries them, the engine judges them.
"""

from __future__ import annotations

from collections import deque

from hasyncd.core.effects import Effect, EndOffer, MergeFlows, OfferFlows, ReportEvent
from hasyncd.core.messages import FEATURE_OFFER, Hello, HelloReply, Offer
from hasyncd.core.types import MergeFindings, MergeReport
from hasyncd.core.wire import Rejected, encode_frame

OFFERED_MAX = 2**24
"""No table has more flows: proto/sync.md §8."""
TRIES_MAX = 5
"""Streams on which an offer is begun: P23."""


class Offering:
    """The loser's half."""

    def __init__(self) -> None:
        self.wanted = False
        """This node was a primary beside another one, and lost."""
        self.report: MergeReport | None = None
        self._generation = 0
        self._tries = 0
        self._offered = 0
        self._sent = False
        self._greeting: list[Effect] | None = None

    def want(self) -> None:
        """A primary of higher rank was heard."""
        self.wanted = True
        self._tries = 0
        self._forget_stream()

    def drop(self) -> None:
        """The flows are this node's own again."""
        self.wanted = False
        self._forget_stream()

    def _forget_stream(self) -> None:
        self._sent, self._greeting, self._offered = False, None, 0

    @property
    def under_way(self) -> bool:
        """HELLO was heard, and its answer waits for the end of the offer."""
        return self._greeting is not None

    def before(self, greeting: list[Effect], hello: Hello) -> list[Effect]:
        """HELLO was taken, and this would be the answer: first comes the offer, where there is one."""
        self._forget_stream()
        if not self.wanted:
            return greeting
        if not hello.features & FEATURE_OFFER:
            self.wanted = False
            return [ReportEvent("merge_impossible", f"{hello.node} takes no offer: what only this node has ends"),
                    *greeting]  # fmt: skip
        self._tries += 1
        if self._tries > TRIES_MAX:
            self.wanted = False
            return [ReportEvent("merge_given_up", f"{TRIES_MAX} streams broke: what only this node has ends"),
                    *greeting]  # fmt: skip
        self._generation = hello.generation
        self._greeting = greeting
        return [OfferFlows()]

    def encode(self, count: int, records: bytes) -> bytes:
        self._offered += count
        return encode_frame(Offer(self._generation, count, records))

    def finish(self) -> list[Effect]:
        """All of it is on the stream: the answer to HELLO."""
        greeting, self._greeting = self._greeting, None
        self._sent = greeting is not None
        return greeting or []

    def judged(self) -> list[Effect]:
        """RESUME or SYNC_BEGIN has come: the winner had all of it."""
        if not self._sent:
            return []
        self.wanted = self._sent = False
        self.report = MergeReport(self._offered)
        return [EndOffer(), ReportEvent("flows_offered", f"{self._offered:,} flows that only this node had")]


class Merging:
    """The winner's half."""

    def __init__(self) -> None:
        self.report: MergeReport | None = None
        self._counted = MergeFindings()
        self._received = 0
        # Batches given to the table, oldest first: those of an earlier stream (None) count for nothing but the past.
        self._pending: deque[int | None] = deque()
        self._before = 0
        self._reply: HelloReply | None = None

    def closed(self) -> None:
        """The stream has ended. Whatever was merged stays, and will be `known` when it is offered again."""
        self._before += self._counted.merged
        self._counted = MergeFindings()
        self._pending = deque(None for _ in self._pending)
        self._received = 0
        self._reply = None

    @property
    def begun(self) -> bool:
        return self._received > 0

    def take(self, frame: Offer) -> list[Effect]:
        """Raises `Rejected`."""
        self._received += frame.count
        if self._received > OFFERED_MAX or self._reply is not None:
            raise Rejected("bad_field" if self._reply is None else "unexpected_frame")
        self._pending.append(frame.count)
        return [MergeFlows(frame.records)]

    def merged(self, count: int, found: MergeFindings, rejection: str | None) -> None:
        """One batch was judged. Raises `Rejected` where it was not one."""
        promised = self._pending.popleft() if self._pending else None
        if promised is None:
            self._before += found.merged
            return
        self._counted = self._counted + found
        if rejection is not None or count != promised:
            raise Rejected(rejection or "count_mismatch")

    def waits_with(self, reply: HelloReply) -> bool:
        """HELLO_REPLY has come; True: batches before it are with the table still."""
        self._reply = reply if self._pending else None
        return self._reply is not None

    def take_reply(self) -> HelloReply | None:
        """What waited for the last batch, when that is judged."""
        if self._pending:
            return None
        reply, self._reply = self._reply, None
        return reply

    def finish(self, peer: str) -> list[Effect]:
        """The offer is judged as a whole."""
        if not self._received:
            return []
        self._received = 0
        again = min(self._before, self._counted.known)
        done = self._counted + MergeFindings(known=-again, merged=again)
        offered = done.known + done.merged + done.collided + done.refused
        self.report = MergeReport(offered, done)
        self._counted, self._before = MergeFindings(), 0
        lost = done.collided + done.refused
        told = f"{done.closed:,} of them connections whose ends will be told" if lost else "nothing is lost"
        return [ReportEvent(
            "merge_report",
            f"{peer} offered {offered:,} flows: {done.merged:,} merged, {done.known:,} known, "
            f"{done.collided:,} collided, {done.refused:,} without room; {told}",
        )]  # fmt: skip
