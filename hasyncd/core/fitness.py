"""How fit this machine is to be primary, and for how long its peer has been fitter: proto/pair.md §4e.

1. `Tracks` takes samples of checks and gives one number; a sample changes nothing by itself, a row of them does.
2. `Advantage` is the patience of a primary whose peer is fitter. It decides when; `giving_way.py` acts on it.
3. Nothing here knows a role, and nothing here makes anybody primary.
"""

from __future__ import annotations

from collections import deque

from hasyncd.core.messages import FITNESS_FULL
from hasyncd.core.types import SECOND_NS, PairSettings, TrackSettings, TrackView

LANS = ("inside", "outside")
"""The tracks that every node has: its interfaces on the service LANs."""
LAN_RISE = 5
"""Samples (one each 100 ms) that a LAN has to be up again before it counts; one that is down counts at once."""
DAMPED_FOR_NS = 600 * SECOND_NS
"""How long a hand-over makes the next one wait longer."""
DOUBLINGS_MAX = 6


class Track:
    """One check: good until `fall` samples in a row are bad, bad until `rise` in a row are good."""

    def __init__(self, settings: TrackSettings) -> None:
        self.settings = settings
        self.good = True
        self.why = ""
        """What the sample said that made it bad; empty while it is good."""
        self._against = 0
        """Samples in a row that contradict the present state."""

    def record(self, good: bool, why: str) -> bool:
        """Takes a sample; True when the state changed by it."""
        if good == self.good:
            self._against = 0
            if not good:
                self.why = why
            return False
        self._against += 1
        if self._against < (self.settings.rise if good else self.settings.fall):
            return False
        self.good, self._against = good, 0
        self.why = "" if good else why
        return True


class Tracks:
    """All checks of this machine."""

    def __init__(self, settings: PairSettings) -> None:
        lans = (TrackSettings(name, "lan", 0, rise=LAN_RISE, fall=1) for name in LANS)
        self._tracks = {track.name: Track(track) for track in (*lans, *settings.tracks)}

    def record(self, name: str, good: bool, why: str) -> Track | None:
        """Takes a sample; the track where its state changed by it. Raises KeyError where no track has that name."""
        track = self._tracks[name]
        return track if track.record(good, why) else None

    @property
    def cut_off(self) -> str | None:
        """The service LAN that is down, so that nothing can be forwarded."""
        return next((name for name in LANS if not self._tracks[name].good), None)

    @property
    def fitness(self) -> int:
        """0 … FITNESS_FULL; everything is good only at the top of it."""
        if self.cut_off is not None:
            return 0
        weighed = [track for track in self._tracks.values() if track.settings.weight]
        total = sum(track.settings.weight for track in weighed)
        good = sum(track.settings.weight for track in weighed if track.good)
        return FITNESS_FULL * good // total if total else FITNESS_FULL

    def failing(self) -> str:
        """The bad ones and why, for people."""
        return "; ".join(f"{name}: {track.why}" for name, track in self._tracks.items() if not track.good)

    def views(self) -> tuple[TrackView, ...]:
        return tuple(
            TrackView(name, track.settings.kind, track.settings.weight, track.good, track.why)
            for name, track in self._tracks.items()
        )


class Advantage:
    """Since when the peer is fitter than this primary, and how long that has to last before it is acted on."""

    def __init__(self, settings: PairSettings) -> None:
        self._settings = settings
        self._since_ns: int | None = None
        self._handed_over_ns: deque[int] = deque(maxlen=DOUBLINGS_MAX)
        self.deadline_ns: int | None = None
        """When time alone may change the verdict."""

    def forget(self) -> None:
        """The peer is not fitter, not heard, or this node is not to judge it."""
        self._since_ns = self.deadline_ns = None

    def note_handover(self, now_ns: int) -> None:
        """One is begun, whether it succeeds or not: the next will have to wait for twice as long."""
        self._handed_over_ns.append(now_ns)
        self.forget()

    def hold_down_ns(self, now_ns: int, *, cut_off: bool) -> int:
        """How long the peer has to be fitter: doubled by each hand-over of the last ten minutes."""
        recent = sum(now_ns - at_ns < DAMPED_FOR_NS for at_ns in self._handed_over_ns)
        # A node that forwards nothing waits only as long as for a silent peer.
        least = self._settings.dead_after_ns if cut_off else self._settings.hold_down_ns
        return least << recent

    def lasts(self, now_ns: int, *, cut_off: bool) -> tuple[bool, bool]:
        """The peer is fitter now. Whether for long enough to hand over to it; and, for a node that is cut off from a
        LAN, whether for so long that a peer that is not ready has to do."""
        if self._since_ns is None:
            self._since_ns = now_ns
        hand_over_ns = self._since_ns + self.hold_down_ns(now_ns, cut_off=cut_off)
        step_aside_ns = self._since_ns + self.hold_down_ns(now_ns, cut_off=False) + self._settings.wait_ns
        moments = [hand_over_ns, step_aside_ns] if cut_off else [hand_over_ns]
        self.deadline_ns = min((moment for moment in moments if moment > now_ns), default=None)
        return now_ns >= hand_over_ns, cut_off and now_ns >= step_aside_ns
