"""One path of the heartbeats: a UDP socket to the peer's address on one network (proto/pair.md §5b).

On a service LAN the socket is bound to the interface, and what has passed a router is dropped by its TTL (GTSM,
RFC 5082). What leaves this file was written by the peer, where the pair has keys.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple

from hasyncd.config_values import Endpoint
from hasyncd.core.seal import TAG_BYTES, seal, unseal
from hasyncd.core.wire import Rejected
from hasyncd.runtime.pair_keys import PairKeys

_HEARTBEAT_BYTES_MAX: Final = 512
_DATAGRAMS_PER_TURN: Final = 64
_TTL: Final = 255
_CONTROL_BYTES: Final = 64
_CLASS_NETWORK_CONTROL: Final = 48 << 2  # DSCP CS6 (RFC 4594): a full queue must not look like a death
_INT: Final = struct.Struct("=i")
_IP_RECVTTL: Final = 12  # linux/in.h


class Route(NamedTuple):
    """Where a path leads; `interface` None: wherever the kernel routes it, through routers too."""

    name: str
    listen: Endpoint
    peer: Endpoint
    interface: str | None = None


class HeartbeatPath:
    """Hands on the peer's heartbeats; counts into `counters` what is none of them."""

    def __init__(self, route: Route, keys: PairKeys | None, counters: Counter[str]) -> None:
        self.name = route.name
        self.sent = self.received = 0
        """Heartbeats that left, and those that came with the peer's address and seal."""
        self._route = route
        self._keys = keys
        self._counters = counters
        self._peer = (str(route.peer.address), route.peer.port)
        self._is_v4 = route.listen.address.version == 4
        self._socket: socket.socket | None = None

    def open(self, on_datagram: Callable[[bytes, str], None], on_untrusted: Callable[[str], None]) -> None:
        """Binds and listens. Raises OSError."""
        self._on_datagram, self._on_untrusted = on_datagram, on_untrusted
        self._loop = asyncio.get_running_loop()
        made = socket.socket(
            socket.AF_INET if self._is_v4 else socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
        )
        self._socket = made
        level, ttl, receive_ttl, traffic_class = (
            (socket.IPPROTO_IP, socket.IP_TTL, _IP_RECVTTL, socket.IP_TOS)
            if self._is_v4
            else (
                socket.IPPROTO_IPV6,
                socket.IPV6_UNICAST_HOPS,
                socket.IPV6_RECVHOPLIMIT,
                socket.IPV6_TCLASS,
            )
        )
        made.setsockopt(level, ttl, _TTL)
        made.setsockopt(level, receive_ttl, 1)
        made.setsockopt(level, traffic_class, _CLASS_NETWORK_CONTROL)
        if self._route.interface is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._route.interface.encode() + b"\0")
        made.bind((str(self._route.listen.address), self._route.listen.port))
        self._loop.add_reader(made.fileno(), self._receive)

    def close(self) -> None:
        """Idempotent."""
        if self._socket is not None and self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()

    def send(self, sealed: bytes) -> None:
        """Sends one datagram; what cannot leave is lost, as on a wire, and counted."""
        if self._socket is None or self._socket.fileno() < 0:
            return
        try:
            self._socket.sendto(sealed, self._peer)
            self.sent += 1
        except OSError as error:
            # ECONNREFUSED-like news of an earlier datagram is no evidence: only the stream's probe is.
            self._counters[f"heartbeat_send_{error.errno}"] += 1

    def seal(self, payload: bytes) -> bytes:
        """What stands on the wire: the same on every path."""
        return payload if self._keys is None else seal(self._keys.sending, payload)

    def _receive(self) -> None:
        assert self._socket is not None, "called by its reader"
        limit = _HEARTBEAT_BYTES_MAX + (TAG_BYTES if self._keys is not None else 0)
        for _ in range(_DATAGRAMS_PER_TURN):
            try:
                payload, control, _, address = self._socket.recvmsg(limit + 1, _CONTROL_BYTES)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                continue  # an ICMP error for a datagram of ours
            if address[0] != self._peer[0]:
                self._counters["datagrams_refused"] += 1
            elif self._route.interface is not None and not self._is_from_the_link(control):
                self._counters["datagrams_routed"] += 1
            else:
                self._judge(payload)

    def _is_from_the_link(self, control: list[tuple[int, int, bytes]]) -> bool:
        wanted = (
            (socket.IPPROTO_IP, socket.IP_TTL) if self._is_v4 else (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT)
        )
        for level, kind, data in control:
            if (level, kind) == wanted and len(data) >= _INT.size:
                return bool(_INT.unpack_from(data)[0] == _TTL)
        return False

    def _judge(self, payload: bytes) -> None:
        if self._keys is not None:
            try:
                payload = unseal(self._keys.receiving, payload)
            except Rejected as rejected:
                self._counters[f"rejected_{rejected.name}"] += 1
                self._on_untrusted("a heartbeat without the pair's seal")
                return
        self.received += 1
        self._on_datagram(payload, self.name)
