"""Is the peer alive, does it hear us, and may we judge at all: proto/pair.md §2, §5, §6.

1. Only accepted heartbeats count as hearing; a replay is not heard.
2. Silence counts from the later of the last heartbeat and the moment we began to listen (start, a change of
   role, waking up): a node never judges its peer on time it slept through.
3. Death is proven, not guessed: the stream ended, the port refuses, and no heartbeat came in between.
"""

from __future__ import annotations

from collections import deque

from hasyncd.core.messages import HEARD_NEVER, Heartbeat
from hasyncd.core.types import MILLISECOND_NS, SECOND_NS, PairSettings
from hasyncd.core.wire import Rejected

PROBE_INTERVAL_NS = 5 * MILLISECOND_NS
"""Between two attempts at the port of a peer whose stream has ended."""
FIRST_PROBES_NS = MILLISECOND_NS
"""Between two of the first: a dying process closes its stream and its port one after the other."""

_FORMER_BOOTS_MAX = 16


class Unproven(Exception):
    """A process that was not heard before does not show that it lives now: answer it, and it can."""


class Liveness:
    """What the peer's heartbeats say about the peer and the link."""

    def __init__(self, settings: PairSettings, boot_id: int, now_ns: int) -> None:
        self._settings = settings
        self._boot_id = boot_id
        self._judge_from_ns = now_ns
        self._former_boots: deque[int] = deque(maxlen=_FORMER_BOOTS_MAX)
        self.last_heard_ns: int | None = None
        self.beat: Heartbeat | None = None
        """The newest heartbeat accepted."""
        self.echo_sent_ns: int | None = None
        """When we sent the newest of our heartbeats that the peer says it has heard."""

    def accept(self, beat: Heartbeat, now_ns: int) -> bool:
        """Takes a heartbeat; True when its process was not heard before. Raises `Rejected`, `Unproven`."""
        if beat.node == self._settings.node:
            raise Rejected("own_node")
        known = self.beat
        fresh_boot = known is None or known.boot_id != beat.boot_id
        if fresh_boot:
            if beat.boot_id == self._boot_id or not self._may_return(beat, now_ns):
                raise Rejected("replayed")
            if self._settings.authenticated and not self._proves_itself(beat, now_ns):
                raise Unproven
            if beat.boot_id in self._former_boots:
                self._former_boots.remove(beat.boot_id)
            if known is not None:
                self._former_boots.append(known.boot_id)
        elif known is not None and beat.counter <= known.counter:
            raise Rejected("replayed")
        self.beat = beat
        self.last_heard_ns = now_ns
        if beat.echo_boot_id == self._boot_id and beat.echo_sent_ns <= now_ns:
            self.echo_sent_ns = max(self.echo_sent_ns or 0, beat.echo_sent_ns)
        return fresh_boot

    def _may_return(self, beat: Heartbeat, now_ns: int) -> bool:
        """A late datagram of a process that was replaced must not bring it back to life. But where we have just
        started, such a one may be the first or the second thing that we hear, and seem to be the newer: who still
        speaks while it is silent, and echoes us, is the one that lives.
        """
        if beat.boot_id not in self._former_boots:
            return True
        return self.living_peer(now_ns) is None and self._proves_itself(beat, now_ns)

    def _proves_itself(self, beat: Heartbeat, now_ns: int) -> bool:
        """proto/pair.md §8, P6: whoever echoes a young heartbeat of ours was alive when we sent it."""
        young = 0 <= now_ns - beat.echo_sent_ns < self._settings.dead_after_ns
        return beat.echo_boot_id == self._boot_id and young

    def listen_from(self, now_ns: int) -> None:
        """Silence counts from here: a new role, or we have slept."""
        self._judge_from_ns = now_ns

    @property
    def silent_at_ns(self) -> int:
        """When the peer's silence will have lasted dead_after."""
        heard = self.last_heard_ns if self.last_heard_ns is not None else self._judge_from_ns
        return max(heard, self._judge_from_ns) + self._settings.dead_after_ns

    @property
    def silent_for_primary_at_ns(self) -> int:
        """The same for a paired primary, which must answer for its VIPs again before its backup has asked for the last
        time: two heartbeats may be enough where no young one of ours was echoed (proto/pair.md §4c).
        """
        if self.echo_sent_ns is None or self.last_heard_ns is None:
            return self.silent_at_ns
        dead_after_ns = self._settings.dead_after_ns
        early = max(
            self.echo_sent_ns + dead_after_ns,
            self.last_heard_ns + 2 * dead_after_ns // 3,
            self._judge_from_ns + dead_after_ns,
        )
        return min(self.silent_at_ns, early)

    def may_be_replaced(self, now_ns: int) -> bool:
        """A backup that has heard nothing after the newest of our heartbeats that it echoed may have asked already who
        has the VIPs, and found nobody (proto/pair.md §4c).
        """
        patience_ns = self._settings.dead_after_ns + self._settings.probe_ns // 2
        return self.echo_sent_ns is None or now_ns - self.echo_sent_ns >= patience_ns

    def living_peer(self, now_ns: int) -> Heartbeat | None:
        """The newest heartbeat, unless it is older than dead_after."""
        if self.last_heard_ns is None or now_ns - self.last_heard_ns >= self._settings.dead_after_ns:
            return None
        return self.beat

    def hears_us(self, now_ns: int) -> bool:
        """The echo of this process is not older than dead_after: the link works both ways."""
        return self.echo_sent_ns is not None and now_ns - self.echo_sent_ns < self._settings.dead_after_ns

    def echoed_lease_ns(self) -> int:
        """The end of the lease that the newest echo grants; 0 without one. proto/pair.md §5, P3."""
        return 0 if self.echo_sent_ns is None else self.echo_sent_ns + self._settings.lease_ns

    def heard_ms(self, now_ns: int) -> int:
        if self.last_heard_ns is None:
            return HEARD_NEVER
        return min((now_ns - self.last_heard_ns) // MILLISECOND_NS, HEARD_NEVER - 1)

    def state(self, now_ns: int) -> str:
        if self.last_heard_ns is None:
            return "never"
        return "connected" if self.living_peer(now_ns) and self.hears_us(now_ns) else "lost"


def has_slept(deadline_ns: int | None, now_ns: int, settings: PairSettings) -> bool:
    """proto/pair.md §2: a node whose timer runs more than dead_after / 2 late has slept."""
    return deadline_ns is not None and now_ns - deadline_ns > settings.dead_after_ns // 2


class DeathWatch:
    """Collects the evidence that the peer's process is dead; proto/pair.md §6."""

    def __init__(self, settings: PairSettings) -> None:
        self._settings = settings
        self._since_ns: int | None = None
        self._answer_counts = False
        self.probe_at_ns: int | None = None

    @property
    def watching(self) -> bool:
        return self._since_ns is not None

    def begin(self, now_ns: int) -> None:
        """The stream has ended without LEAVING."""
        self._since_ns = self.probe_at_ns = now_ns
        self._answer_counts = False

    def cancel(self) -> None:
        self._since_ns = self.probe_at_ns = None
        self._answer_counts = False

    def void(self) -> None:
        """The attempt under way proves nothing any more: its answer may be old."""
        self._answer_counts = False

    def hear(self, now_ns: int) -> None:
        """A heartbeat arrived. One that was already on its way when the process died comes with the end of
        the stream: it only voids the attempt under way. A later one proves life.
        """
        self.void()
        if self._since_ns is not None and now_ns - self._since_ns > PROBE_INTERVAL_NS:
            self.cancel()

    def take_probe(self, now_ns: int) -> bool:
        """True when it is time for an attempt."""
        if self._since_ns is None or self.probe_at_ns is None or now_ns < self.probe_at_ns:
            return False
        # Past dead_after the timer has decided, or (prefer = safety) only proof will: no hurry then.
        elapsed_ns = now_ns - self._since_ns
        hurry = PROBE_INTERVAL_NS if elapsed_ns < self._settings.dead_after_ns else SECOND_NS
        self.probe_at_ns = now_ns + (FIRST_PROBES_NS if elapsed_ns < PROBE_INTERVAL_NS else hurry)
        self._answer_counts = True
        return True

    def refuse(self) -> bool:
        """The port refused; True when that completes the proof."""
        return self._since_ns is not None and self._answer_counts
