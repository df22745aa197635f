"""The kernel's routes, neighbours and links, mirrored over netlink.

One socket carries both the events and the dumps, so that what arrives is in the order in which the kernel
said it: an event that follows a dumped entry is newer than it. When the socket's queue overran (ENOBUFS)
events were lost, and everything is dumped anew.

Routes are never patched: any event about them, addresses or links starts a new dump a moment later, because
the kernel removes routes without a word when a link or an address goes.
"""

from __future__ import annotations

import asyncio
import enum
import errno
import itertools
import socket
import struct
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from hasyncd.datapath.interfaces import RTM_GETLINK, Interface
from hasyncd.datapath.kernel_dumps import ROUTE_DUMPS, Dump, dump_request
from hasyncd.datapath.kernel_tables import (
    NEIGHBOUR_SEQUENCE,
    RTM_NEWNEIGH,
    NeighbourEntry,
    NeighbourKey,
    NeighbourTable,
    RouteCandidate,
    RouteEntry,
    choose_routes,
    read_neighbour,
    read_route,
    take,
    use_request,
)
from hasyncd.datapath.netlink_wire import (
    NLM_F_DUMP_INTERRUPTED,
    NLM_F_MULTI,
    NLMSG_DONE,
    NLMSG_ERROR,
    RECEIVE_BYTES,
    Frame,
    NetlinkError,
    decode,
    encode,
    error_of,
    open_monitor,
    split,
)

_RTM_NEWLINK: Final = 16
_RTM_DELLINK: Final = 17
_RTM_NEWADDR: Final = 20
_RTM_DELADDR: Final = 21
_RTM_NEWROUTE: Final = 24
_RTM_DELROUTE: Final = 25
_RTM_DELNEIGH: Final = 29

_GROUPS: Final = 0x1 | 0x4 | 0x10 | 0x40 | 0x100 | 0x400  # link, neighbours; addresses, routes (IPv4, IPv6)
_IFF_UP: Final = 0x1
_IFF_LOWER_UP: Final = 0x1_0000
_SKIP_STATISTICS: Final = 0x8  # RTEXT_FILTER_SKIP_STATS

_ROUTES_SETTLE_S: Final = 0.02
_SETTLE_PER_ROUTE_S: Final = 0.0005  # reading one costs about 25 µs
_RETRY_S: Final = 1.0
_DUMP_TIMEOUT_S: Final = 5.0
_START_TIMEOUT_S: Final = 10.0
_DATAGRAMS_PER_TURN: Final = 4
_REQUESTS_PER_BATCH: Final = 64
_REQUESTS_PENDING_MAX: Final = 4096
_BATCH_INTERVAL_S: Final = 0.005
_LINK_SEQUENCES: Final = (2, 3)  # the side is the sequence less 2
_FIRST_DUMP_SEQUENCE: Final = 16
_INDEX_AT: Final = struct.Struct("=4xi")


class LinkState(enum.Enum):
    """What an interface is worth to the data path."""

    UP = "up"
    DOWN = "down"
    AWAY = "away"
    """Gone from this namespace. An interface of the same name that appears later is another one."""


class Netlink:
    """Mirrors what the packet engine needs of the kernel; one task uses it.

    Callbacks run in the event loop and must not raise: `on_routes` gets the whole list whenever it changed,
    `on_neighbours` the changed ones (all of them first), `on_link` a side's state at the start and whenever
    it changes, `on_addresses` that the machine's own addresses may have changed. `counters` counts what went
    wrong and what was asked.
    """

    def __init__(
        self,
        inside: Interface,
        outside: Interface,
        *,
        on_routes: Callable[[list[RouteEntry]], None],
        on_neighbours: Callable[[list[NeighbourEntry]], None],
        on_link: Callable[[int, LinkState], None],
        on_addresses: Callable[[], None] = lambda: None,
        receive_buffer: int = 4_194_304,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self.routes: list[RouteEntry] = []
        self._indexes = (inside.index, outside.index)
        self._sides = {inside.index: 0, outside.index: 1}
        self._on_routes, self._on_neighbours = on_routes, on_neighbours
        self._on_link, self._on_addresses = on_link, on_addresses
        self._receive_buffer = receive_buffer
        self._socket: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started: asyncio.Future[None] | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}

        self._links: dict[int, LinkState] = {}
        self._neighbours = NeighbourTable()
        self._wanted: dict[NeighbourKey, None] = {}
        self._asking = [
            {family: use_request(index, family) for family in (socket.AF_INET, socket.AF_INET6)}
            for index in self._indexes
        ]

        self._dumps: deque[Dump] = deque()
        self._dumping: Dump | None = None
        self._sequence = _FIRST_DUMP_SEQUENCE
        self._interrupted = False
        self._overrun = False
        self._candidates: dict[Dump, list[RouteCandidate]] = {}
        self._read_candidates: list[RouteCandidate] = []
        self._routes_known = False

    async def start(self) -> None:
        """Opens the socket; returns when routes, neighbours and links are known and were reported.

        Raises OSError (NetlinkError) when the kernel refuses or does not answer. Call `close` in any case.
        """
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.create_future()
        self._socket = open_monitor(_GROUPS, self._receive_buffer)
        self._watch()
        self._refresh_all()
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                await self._started
        except TimeoutError as error:
            raise NetlinkError(errno.ETIMEDOUT, "mirroring the kernel's tables: no answer") from error

    def close(self) -> None:
        """Ends the mirror. Idempotent; no callback is called afterwards."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        if self._socket is not None and self._loop is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
        self._socket = None

    def resolve(self, wanted: Sequence[NeighbourKey]) -> None:
        """Asks the kernel to find the MACs of (side, address); answers come by `on_neighbours`.

        Bounded: what exceeds 4,096 waiting requests is dropped and counted, for the engine names what it
        still misses again.
        """
        for key in wanted:
            if self._neighbours.tell_again(key):
                self._later("neighbours", 0, self._report_neighbours)
            elif len(self._wanted) < _REQUESTS_PENDING_MAX:
                self._wanted[key] = None
            else:
                self.counters["neighbour_requests_dropped"] += 1
        self._send_wanted_soon()

    def refresh(self, used: Iterable[NeighbourKey]) -> None:
        """Tells the kernel that these neighbours are in use: it probes the stale ones of them."""
        for key in used:
            if self._neighbours.is_stale(key) and len(self._wanted) < _REQUESTS_PENDING_MAX:
                self._wanted[key] = None
        self._send_wanted_soon()

    # --- sending ----------------------------------------------------------------------------

    def _send_wanted_soon(self) -> None:
        if self._wanted:
            self._later("wanted", 0, self._send_wanted)

    def _send_wanted(self) -> None:
        batch = [
            self._asking[side][socket.AF_INET] + address.to_bytes(4, "big")
            if isinstance(address, int)
            else self._asking[side][socket.AF_INET6] + address
            for side, address in take(self._wanted, _REQUESTS_PER_BATCH)
        ]
        self.counters["neighbour_requests"] += len(batch)
        self._send(b"".join(batch))
        if self._wanted:
            self._later("wanted", _BATCH_INTERVAL_S, self._send_wanted)

    def _send(self, request: bytes) -> bool:
        if self._socket is None:
            return False
        try:
            self._socket.send(request)
        except OSError as error:
            self.counters["send_errors"] += 1
            self._fail(NetlinkError(error.errno or 0, f"asking the kernel: {error.strerror}"))
            return False
        return True

    def _later(self, name: str, delay_s: float, action: Callable[[], None]) -> None:
        """Runs `action` once after the delay, however often it is asked for until then."""
        if name in self._timers or self._loop is None or self._socket is None:
            return

        def run() -> None:
            del self._timers[name]
            action()

        self._timers[name] = self._loop.call_later(delay_s, run)

    def _refresh_all(self) -> None:
        self._query_links()
        self._dump_routes()
        self._dump(Dump.NEIGHBOURS)

    def _query_links(self) -> None:
        for side, sequence in enumerate(_LINK_SEQUENCES):
            request = ifinfmsg()
            request["index"] = self._indexes[side]
            request["attrs"] = [("IFLA_EXT_MASK", _SKIP_STATISTICS)]
            self._send(encode(request, RTM_GETLINK, 0, sequence))

    def _dump_routes_soon(self) -> None:
        """After a moment that grows with the table, so that restless routes cost a few percent at most."""
        count = sum(map(len, self._candidates.values()))
        delay_s = max(_ROUTES_SETTLE_S, _SETTLE_PER_ROUTE_S * count)
        self._later("routes", delay_s, self._dump_routes)

    def _dump_routes(self) -> None:
        for dump in ROUTE_DUMPS:
            self._dump(dump)

    def _dump(self, dump: Dump) -> None:
        if dump not in self._dumps:
            self._dumps.append(dump)
        self._next_dump()

    def _next_dump(self) -> None:
        if self._dumping is not None or not self._dumps:
            return
        self._dumping = self._dumps.popleft()
        self._interrupted = False
        self._sequence = max(_FIRST_DUMP_SEQUENCE, (self._sequence + 1) & 0xFFFF_FFFF)
        self.counters[f"dumps_{self._dumping.value}"] += 1
        self._read_candidates = []
        if self._dumping is Dump.NEIGHBOURS:
            self._neighbours.begin_dump()
        sent = self._send(dump_request(self._dumping, self._sequence))
        if sent:
            self._later("stuck", _DUMP_TIMEOUT_S, self._abandon_dump)
        else:
            self._dumping = None
            self._later("retry", _RETRY_S, self._refresh_all)

    def _abandon_dump(self) -> None:
        """The kernel's answer was lost: begins anew."""
        self.counters["dumps_lost"] += 1
        self._dumping = None
        self._refresh_all()

    # --- receiving --------------------------------------------------------------------------

    def _watch(self) -> None:
        """(Re)starts reading; uvloop gives up a descriptor that reported an error (EPOLLERR)."""
        if self._socket is not None and self._loop is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._loop.add_reader(self._socket.fileno(), self._read)

    def _read(self) -> None:
        for _ in range(_DATAGRAMS_PER_TURN):
            if self._socket is None:
                return
            try:
                datagram, _, flags, _ = self._socket.recvmsg(RECEIVE_BYTES)
            except BlockingIOError:
                if self._overrun:
                    self._overrun = False
                    self._refresh_all()
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    self.counters["receive_errors"] += 1
                    self._fail(NetlinkError(error.errno or 0, f"reading from the kernel: {error.strerror}"))
                    break
                # The queue is full of old news: a dump asked for now would find no room for its answer.
                self.counters["overruns"] += 1
                self._overrun = True
                self._watch()
                continue
            if flags & socket.MSG_TRUNC:  # only an interface with very many functions writes so much
                self.counters["truncated"] += 1
                self._query_links()
            for frame in split(datagram):
                self._receive(frame)
        self._report_neighbours()

    def _receive(self, frame: Frame) -> None:
        if frame.kind in (NLMSG_DONE, NLMSG_ERROR):
            self._receive_end(frame)
        elif frame.kind in (RTM_NEWNEIGH, _RTM_DELNEIGH):
            self._receive_neighbour(frame)
        elif frame.kind in (_RTM_NEWLINK, _RTM_DELLINK):
            self._receive_link(frame)
        elif frame.kind == _RTM_NEWROUTE and self._of_dump(frame, *ROUTE_DUMPS):
            candidate = read_route(decode(rtmsg, frame), self._sides)
            if candidate is not None:
                self._read_candidates.append(candidate)
        elif frame.kind in (_RTM_NEWROUTE, _RTM_DELROUTE, _RTM_NEWADDR, _RTM_DELADDR):
            self._dump_routes_soon()
            if frame.kind in (_RTM_NEWADDR, _RTM_DELADDR):
                self._later("addresses", _ROUTES_SETTLE_S, self._on_addresses)

    def _of_dump(self, frame: Frame, *dumps: Dump) -> bool:
        """Whether the frame answers the dump under way, one of `dumps`; notices an interrupted one."""
        # An event repeats the sequence of whoever caused it, which may equal ours; only dumps are multipart.
        if self._dumping not in dumps or frame.sequence != self._sequence or not frame.flags & NLM_F_MULTI:
            return False
        if frame.flags & NLM_F_DUMP_INTERRUPTED:
            self._interrupted = True
        return True

    def _receive_end(self, frame: Frame) -> None:
        if frame.sequence in _LINK_SEQUENCES and frame.error == errno.ENODEV:
            self._set_link(_LINK_SEQUENCES.index(frame.sequence), LinkState.AWAY)
        elif frame.sequence == NEIGHBOUR_SEQUENCE:
            self.counters["neighbour_request_errors"] += frame.error != 0
        elif self._dumping is not None and frame.sequence == self._sequence:
            self._end_dump(self._dumping, frame)
        elif frame.error:
            self.counters["request_errors"] += 1
            self._fail(error_of(frame, "asking for an interface"))

    def _end_dump(self, dump: Dump, frame: Frame) -> None:
        self._dumping = None
        if (stuck := self._timers.pop("stuck", None)) is not None:
            stuck.cancel()
        # A namespace that never had a route has no main table: that is no error.
        if frame.error and not (dump in ROUTE_DUMPS and frame.error == errno.ENOENT):
            self.counters["dump_errors"] += 1
            self._fail(error_of(frame, f"listing {dump.value}"))
            self._later("retry", _RETRY_S, self._refresh_all)
        elif self._interrupted or frame.flags & NLM_F_DUMP_INTERRUPTED:
            self.counters["dumps_interrupted"] += 1
            self._later("interrupted", _ROUTES_SETTLE_S, self._refresh_all)
            self._next_dump()
            return
        elif dump in ROUTE_DUMPS:
            self._end_routes(dump)
        else:
            self._neighbours.end_dump()
            self._report_neighbours()
        self._next_dump()
        self._succeed()

    def _end_routes(self, dump: Dump) -> None:
        self._candidates[dump] = self._read_candidates
        if len(self._candidates) < len(ROUTE_DUMPS):
            return
        routes = choose_routes(itertools.chain.from_iterable(self._candidates.values()))
        if routes != self.routes or not self._routes_known:
            self._routes_known = True
            self.routes = routes
            self._on_routes(list(routes))

    def _receive_neighbour(self, frame: Frame) -> None:
        if frame.data[16] not in (socket.AF_INET, socket.AF_INET6):
            return
        self._of_dump(frame, Dump.NEIGHBOURS)
        deleted = frame.kind == _RTM_DELNEIGH
        neighbour = read_neighbour(decode(ndmsg, frame), deleted, self._sides)
        if neighbour is not None:
            self._neighbours.receive(neighbour, deleted)

    def _receive_link(self, frame: Frame) -> None:
        # A port that leaves a bridge is announced as RTM_DELLINK of the bridge family: not of the interface.
        if frame.data[16] != socket.AF_UNSPEC:
            return
        side = self._sides.get(_INDEX_AT.unpack_from(frame.data, 16)[0])
        if side is None:
            return
        if frame.kind == _RTM_DELLINK:
            self._set_link(side, LinkState.AWAY)
            return
        up = decode(ifinfmsg, frame)["flags"] & (_IFF_UP | _IFF_LOWER_UP) == _IFF_UP | _IFF_LOWER_UP
        self._set_link(side, LinkState.UP if up else LinkState.DOWN)

    def _set_link(self, side: int, state: LinkState) -> None:
        if self._links.get(side) is not state:
            self._links[side] = state
            self._on_link(side, state)
            self._dump_routes_soon()
        self._succeed()

    def _report_neighbours(self) -> None:
        changes = self._neighbours.take_changes()
        if changes:
            self._on_neighbours(changes)

    # --- start ------------------------------------------------------------------------------

    def _succeed(self) -> None:
        complete = self._dumping is None and not self._dumps and len(self._links) == 2
        if complete and self._started is not None and not self._started.done():
            self._started.set_result(None)

    def _fail(self, error: NetlinkError) -> None:
        """An error ends `start`; afterwards it is only counted, and the next event tries again."""
        if self._started is not None and not self._started.done():
            self._started.set_exception(error)
