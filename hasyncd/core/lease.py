"""The licence to forward, as far as the core grants it: proto/pair.md §5. The data path checks it itself.

1. Paired: it ends 0.8 x dead_after after the *sending* of the newest heartbeat that the peer echoed.
2. Solo: the node's own timer moves it to now + dead_after. Where that needs a witness' word which is still to come,
   a lease is lent in advance, once (proto/pair.md §7b).
3. Becoming paired again may shorten it: from that heartbeat on the peer counts our silence.
"""

from __future__ import annotations

from hasyncd.core.effects import Arm, Disarm, Effect, RenewLease
from hasyncd.core.types import PairSettings


class Lease:
    def __init__(self, settings: PairSettings) -> None:
        self._settings = settings
        self.armed = False
        self.solo = False
        self.until_ns = 0

    def arm(self, now_ns: int, *, solo: bool, echoed_until_ns: int, lent: bool = False) -> list[Effect]:
        """Arms; without a fresh echo a paired lease begins with the first one that comes."""
        self.armed = True
        self.solo = solo
        self.until_ns = self._alone_until_ns(now_ns, lent=lent) if solo else echoed_until_ns
        return [Arm(self.until_ns)]

    def disarm(self) -> list[Effect]:
        """Idempotent as to the role's duty: says `Disarm` even when it was said before."""
        self.armed = False
        self.solo = False
        self.until_ns = 0
        return [Disarm()]

    def suspend(self) -> list[Effect]:
        """Disarms, solo or paired as it was: after sleeping, or while handing over."""
        self.armed = False
        self.until_ns = 0
        return [Disarm()]

    def act_alone(self, now_ns: int, *, lent: bool = False) -> list[Effect]:
        """Solo from now on, or solo still: the node's own timer renews it."""
        self.solo = True
        return self._set(self._alone_until_ns(now_ns, lent=lent))

    def _alone_until_ns(self, now_ns: int, *, lent: bool) -> int:
        return now_ns + (self._settings.lease_ns if lent else self._settings.dead_after_ns)

    def echo(self, echoed_until_ns: int, now_ns: int) -> bool:
        """True when a fresh echo ends the solo time."""
        return self.solo and echoed_until_ns > now_ns

    def pair(self, echoed_until_ns: int) -> list[Effect]:
        self.solo = False
        return self._set(echoed_until_ns)

    def extend(self, echoed_until_ns: int) -> list[Effect]:
        """Paired: a newer echo moves the end, an older one does not."""
        return self._set(echoed_until_ns) if not self.solo and echoed_until_ns > self.until_ns else []

    def _set(self, until_ns: int) -> list[Effect]:
        if not self.armed:
            return []
        self.until_ns = until_ns
        return [RenewLease(until_ns)]
