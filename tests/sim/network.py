"""The wire between the two nodes: datagrams that get lost or late, streams that stall or break.

Directions are named by the sending node's index (0 or 1). Everything random is drawn from the world's `Random`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

SOCKET_BYTES = 2048
"""What the sockets of a stream hold before write(2) takes no more; small, as the tables of this world are."""
Schedule = Callable[[int, Callable[[], None]], None]


@dataclass(slots=True)
class Link:
    """One direction of a path for datagrams."""

    loss: float = 0.0
    delay_ns: tuple[int, int] = (50_000, 300_000)
    cut: bool = False
    healed_at_ns: int = -(10**12)
    lost_in_a_row: int = 0
    last_row_ns: int = -(10**12)
    """When two datagrams in a row were last lost by chance: to a node that looks like a cut."""


@dataclass(slots=True, eq=False)
class Stream:
    """One TCP connection: bytes in order in each direction, delivered or stalled, never reordered."""

    ends: tuple[int, int]
    """(index of the node that connected, index of the node that accepted)"""
    boots: tuple[int, int]
    open_ends: set[int] = field(default_factory=set)
    in_flight: dict[int, list[bytes]] = field(default_factory=lambda: {0: [], 1: []})
    """By sender: not yet delivered."""
    lag_ns: int = 0
    """How much later than others what is on this one arrives: connections overtake each other."""
    closing: set[int] = field(default_factory=set)
    """Senders whose end of stream is in flight."""


class Network:
    def __init__(self, rng: random.Random, schedule: Schedule, now: Callable[[], int]) -> None:
        self._rng = rng
        self._schedule = schedule
        self._now = now
        self.links = (Link(), Link())
        """The path `sync`, by sender; it carries the streams too."""
        self.lans = {"inside": (Link(), Link()), "outside": (Link(), Link())}
        """Where the VIPs are; heartbeats go there too where it is configured. Nothing but a cut loses ARP."""
        self.paths = {"sync": self.links}
        self.streams: list[Stream] = []
        self.unread: set[int] = set()
        """Nodes that read nothing from their streams."""
        self.mangling: str | None = None
        """`lost`, `doubled` or `changed`: what happens to one byte of what is delivered next."""
        self.lag_max_ns = 0
        self.room_again: Callable[[Stream, int], None] = lambda stream, index: None
        self.deliver_datagram: Callable[[int, bytes, str], None] = lambda index, payload, path: None
        self.deliver_bytes: Callable[[Stream, int, bytes], None] = lambda stream, index, data: None
        self.deliver_end: Callable[[Stream, int], None] = lambda stream, index: None

    def delay(self, sender: int) -> int:
        return self._rng.randint(*self.links[sender].delay_ns)

    def whole(self) -> bool:
        """Streams flow: on their path nothing is cut at this moment."""
        return not any(link.cut for link in self.links)

    @property
    def _everything(self) -> dict[str, tuple[Link, Link]]:
        return self.paths | self.lans

    def parted(self) -> bool:
        """A cut on every path and LAN at this moment."""
        return all(any(link.cut for link in links) for links in self._everything.values())

    def excused(self, grace_ns: int) -> bool:
        """On every path and LAN a cut now or a moment ago, or bad luck that looks like one: a declared partition."""
        since = self._now() - grace_ns
        return all(
            any(link.cut or link.healed_at_ns > since or link.last_row_ns > since for link in links)
            for links in self._everything.values()
        )

    def cut(self, sender: int, path: str | None = None) -> None:
        for links in self._everything.values() if path is None else [self._everything[path]]:
            links[sender].cut = True

    def send_arp(self, sender: int, lan: str, arrive: Callable[[], None]) -> None:
        link = self.lans[lan][sender]
        if not link.cut:
            self._schedule(self._rng.randint(*link.delay_ns), lambda: None if link.cut else arrive())

    def read_again(self, index: int) -> None:
        self.unread.discard(index)
        self._pump_all()

    def heal(self, path: str | None = None) -> None:
        for links in self._everything.values() if path is None else [self._everything[path]]:
            for link in links:
                if link.cut:
                    link.cut = False
                    link.healed_at_ns = self._now()
        self._pump_all()

    def _pump_all(self) -> None:
        for stream in list(self.streams):
            for sender in stream.ends:
                self._pump(stream, sender)

    # --- datagrams -------------------------------------------------------------------------------

    def send_datagram(self, sender: int, payload: bytes, path: str | None = None) -> None:
        """By one path, or by all."""
        for name in self.paths if path is None else [path]:
            self._send_datagram(sender, payload, name)

    def _send_datagram(self, sender: int, payload: bytes, path: str) -> None:
        link = self.paths[path][sender]
        if link.cut:
            return
        if self._rng.random() < link.loss:
            link.lost_in_a_row += 1
            if link.lost_in_a_row >= 2:
                link.last_row_ns = self._now()
            return
        link.lost_in_a_row = 0

        def arrive() -> None:
            if not link.cut:
                self.deliver_datagram(1 - sender, payload, path)

        self._schedule(self._rng.randint(*link.delay_ns), arrive)

    # --- streams ---------------------------------------------------------------------------------

    def open_stream(self, connector: int, boots: tuple[int, int]) -> Stream:
        stream = Stream(
            (connector, 1 - connector), boots, {0, 1}, lag_ns=self._rng.randint(0, self.lag_max_ns)
        )
        self.streams.append(stream)
        return stream

    def has_room(self, stream: Stream, sender: int) -> bool:
        """write(2) would take more; `room_again` is called when that has changed."""
        return sum(map(len, stream.in_flight[sender])) < SOCKET_BYTES

    def write(self, stream: Stream, sender: int, data: bytes) -> None:
        if sender in stream.open_ends and sender not in stream.closing:
            stream.in_flight[sender].append(data)
            self._schedule(self.delay(sender) + stream.lag_ns, lambda: self._pump(stream, sender))

    def close(self, stream: Stream, sender: int, *, abrupt: bool = False) -> None:
        """Ends one side. `abrupt`: the process was killed, and what it had still to send may be cut short."""
        if sender not in stream.open_ends:
            return
        stream.open_ends.discard(sender)
        stream.closing.add(sender)
        if abrupt:
            self._cut_short(stream, sender)
        self._schedule(self.delay(sender) + stream.lag_ns, lambda: self._pump(stream, sender))

    def _cut_short(self, stream: Stream, sender: int) -> None:
        flight = stream.in_flight[sender]
        kept = self._rng.randint(0, len(flight))
        lost = flight[kept:]
        del flight[kept:]
        if lost and self._rng.random() < 0.5:
            flight.append(lost[0][: self._rng.randint(0, len(lost[0]))])

    def _mangled(self, data: bytes) -> bytes:
        way, self.mangling = self.mangling, None
        if way is None or not data:
            return data
        at = self._rng.randrange(len(data))
        byte = {
            "lost": b"",
            "doubled": data[at : at + 1] * 2,
            "changed": bytes([data[at] ^ 1 << self._rng.randrange(8)]),
        }[way]
        return data[:at] + byte + data[at + 1 :]

    def break_streams(self) -> None:
        """Both ends see their connection end, in the middle of whatever was in flight."""
        for stream in list(self.streams):
            for sender in stream.ends:
                stream.closing.add(sender)
                self._cut_short(stream, sender)
                self._schedule(
                    self.delay(sender) + stream.lag_ns, lambda s=stream, end=sender: self._pump(s, end)
                )  # type: ignore[misc]

    def reset_streams(self, index: int) -> None:
        """A machine has started anew: its kernel knows none of the old connections and answers RST."""
        for stream in list(self.streams):
            stream.open_ends.discard(index)
            stream.closing.add(index)
            self._schedule(self.delay(index), lambda stream=stream: self._pump(stream, index))  # type: ignore[misc]

    def _pump(self, stream: Stream, sender: int) -> None:
        """Delivers what is in flight, unless either direction is cut (TCP stalls without its acknowledgements) or
        nobody reads."""
        receiver = 1 - sender
        if not self.whole() or receiver in self.unread:
            return
        was_full = not self.has_room(stream, sender)
        while stream.in_flight[sender] and receiver in stream.open_ends:
            self.deliver_bytes(stream, receiver, self._mangled(stream.in_flight[sender].pop(0)))
        if was_full:
            self.room_again(stream, sender)
        if sender in stream.closing and receiver in stream.open_ends and not stream.in_flight[sender]:
            stream.open_ends.discard(receiver)
            self.deliver_end(stream, receiver)
        if not stream.open_ends and stream in self.streams:
            self.streams.remove(stream)
