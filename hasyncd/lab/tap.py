"""A tap on a LAN's bridge: what a gateway's machine sends there in the name of the pair, counted by the kernel's clock.

It listens at the bridge's port of that gateway, so it sees each frame with the gateway's MAC, whatever its daemon says
of itself. What the machine sends in its own name (heartbeats, its own ARP) is not counted.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
import time
from dataclasses import dataclass

from hasyncd.lab import namespaces, plan
from hasyncd.lab.namespaces import LabError
from hasyncd.lab.topology import Topology

_ETH_P_ALL = 3
_SOL_PACKET, _PACKET_STATISTICS, _PACKET_IGNORE_OUTGOING = 263, 6, 23  # linux/if_packet.h
_SO_RCVBUFFORCE, _SO_TIMESTAMPING = 33, 37  # asm-generic/socket.h
_STAMP = 1 << 3 | 1 << 4  # SOF_TIMESTAMPING_RX_SOFTWARE, SOF_TIMESTAMPING_SOFTWARE: linux/net_tstamp.h
_STAMPS_WITHIN_S = 5.0
_BUFFER_BYTES = 32 << 20
_HEAD_BYTES = 128
_IPV4, _ARP, _IPV6 = 0x0800, 0x0806, 0x86DD
_ICMP6, _ADVERTISEMENT = 58, 136
_VIPS = frozenset(
    ipaddress.ip_address(vip)
    for vip in (plan.INSIDE_VIP, plan.OUTSIDE_VIP, plan.INSIDE_VIP6, plan.OUTSIDE_VIP6)
)


@dataclass(frozen=True, slots=True)
class Sighting:
    """One frame in the name of the pair."""

    at_ns: int
    """CLOCK_BOOTTIME, when the kernel took it from the wire."""
    side: str
    kind: str
    """`ARP`, `NDP`, `IPv4` or `IPv6`."""
    address: str
    """In whose name."""


def read_frame(frame: bytes, own: frozenset[str]) -> tuple[str, str] | None:
    """(kind, address) of a frame that a gateway sent for the pair; None where it is its machine's own."""
    if len(frame) < 14:
        return None
    kind = int.from_bytes(frame[12:14])
    if kind == _ARP and len(frame) >= 42:
        sender = ipaddress.IPv4Address(frame[28:32])
        return ("ARP", str(sender)) if sender in _VIPS else None
    if kind == _IPV4 and len(frame) >= 34:
        source4 = str(ipaddress.IPv4Address(frame[26:30]))
        return None if source4 in own else ("IPv4", source4)
    if kind == _IPV6 and len(frame) >= 54:
        source = ipaddress.IPv6Address(frame[22:38])
        if frame[20] == _ICMP6 and len(frame) >= 78 and frame[54] == _ADVERTISEMENT:
            target = ipaddress.IPv6Address(frame[62:78])
            return ("NDP", str(target)) if target in _VIPS else None
        if source.is_link_local or source.is_unspecified or str(source) in own:
            return None
        return "IPv6", str(source)
    return None


class Tap:
    """Listens from its making on, on both LANs; `close` it."""

    def __init__(self, topology: Topology, name: str) -> None:
        """Raises LabError."""
        gateway = plan.gateway_named(name)
        self._own = frozenset((gateway.inside, gateway.outside, gateway.inside6, gateway.outside6))
        self._sockets: dict[str, socket.socket] = {}
        # Frames are stamped with CLOCK_REALTIME; the lab speaks CLOCK_BOOTTIME.
        self._offset_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.time_ns()
        self.lost = 0
        """Frames that did not fit the tap's buffer, or bore no time: then its counts prove nothing."""
        with namespaces.inside(topology.namespace(plan.LAN)):
            for side in ("inside", "outside"):
                self._sockets[side] = _listen(f"{name}-{side}")
        _until_frames_are_stamped()
        self.read()
        self.lost = 0

    def read(self) -> list[Sighting]:
        """What was sent since the last call, oldest first. Raises LabError."""
        found = []
        for side, sock in self._sockets.items():
            with contextlib.suppress(BlockingIOError):
                while True:
                    frame, ancillary, _, _ = sock.recvmsg(_HEAD_BYTES, 128)
                    said, stamp_ns = read_frame(frame, self._own), _stamp(ancillary)
                    if said is not None and stamp_ns is not None:
                        found.append(Sighting(stamp_ns + self._offset_ns, side, *said))
                    elif said is not None:
                        self.lost += 1
            statistics = sock.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
            self.lost += struct.unpack("II", statistics)[1]
        return sorted(found, key=lambda sighting: sighting.at_ns)

    def close(self) -> None:
        """Ends it."""
        for sock in self._sockets.values():
            sock.close()


def _listen(port: str) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING, _STAMP)
        sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        sock.setblocking(False)
        sock.bind((port, _ETH_P_ALL))
    except OSError as error:
        sock.close()
        raise LabError(f"no tap on {port}: {error}") from error
    return sock


def _stamp(ancillary: list[tuple[int, int, bytes]]) -> int | None:
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPING):
            seconds, nanoseconds = struct.unpack("qq", data[:16])
            return int(seconds) * 1_000_000_000 + int(nanoseconds)
    return None


def _until_frames_are_stamped() -> None:
    """The kernel begins to stamp frames a while after the first socket that asks for it (net_enable_timestamp).

    Raises LabError.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING, _STAMP)
        own.bind(("127.0.0.1", 0))
        own.settimeout(1)
        deadline = time.monotonic() + _STAMPS_WITHIN_S
        while time.monotonic() < deadline:
            own.sendto(b"", own.getsockname())
            if _stamp(own.recvmsg(1, 128)[1]) is not None:
                return
            time.sleep(0.001)
    raise LabError("the kernel stamps no frames")


def summary(sightings: list[Sighting]) -> str:
    """`3 ARP 10.0.1.1 (inside), 2 IPv4 …`, at most four kinds."""
    counts: dict[str, int] = {}
    for each in sightings:
        name = f"{each.kind} {each.address} ({each.side})"
        counts[name] = counts.get(name, 0) + 1
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{count} {name}" for name, count in ordered[:4])
