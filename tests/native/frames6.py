"""IPv6 frames made and read by hand, as tests/native/frames.py has them for IPv4."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from tests.native.frames import ACK, MAC_HERE, MAC_THERE, TCP, UDP, checksum

HOP_BY_HOP, ROUTING, FRAGMENT, ICMPV6, DESTINATION_OPTIONS = 0, 43, 44, 58, 60
UNREACHABLE, TOO_BIG, TIME_EXCEEDED, PARAMETER_PROBLEM = 1, 2, 3, 4
ECHO_REQUEST, ECHO_REPLY = 128, 129
ROUTER_ADVERTISEMENT, SOLICITATION, ADVERTISEMENT, REDIRECT = 134, 135, 136, 137
ALL_NODES, ALL_NODES_MAC = "ff02::1", b"\x33\x33\0\0\0\1"
HEADER = 40


def number6(address: str) -> bytes:
    """An address as the engine takes it."""
    return socket.inet_pton(socket.AF_INET6, address)


def text6(address: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET6, address)


def solicited_node(address: str) -> str:
    """RFC 4291 §2.7.1."""
    return text6(number6("ff02::1:ff00:0")[:13] + number6(address)[13:])


def group_mac(address: str) -> bytes:
    """RFC 2464 §7."""
    return b"\x33\x33" + number6(address)[12:]


def layer4_checksum(source: str, target: str, protocol: int, body: bytes) -> int:
    return checksum(number6(source) + number6(target) + struct.pack("!II", len(body), protocol) + body)


def ipv6(source: str, target: str, next_header: int, payload: bytes, *, hops: int = 64) -> bytes:
    head = struct.pack("!IHBB", 0x60012345, len(payload), next_header, hops)
    return head + number6(source) + number6(target) + payload


def ethernet6(packet: bytes, *, to: bytes = MAC_HERE, sender: bytes = MAC_THERE) -> bytes:
    return to + sender + b"\x86\xdd" + packet


def summed(source: str, target: str, protocol: int, body: bytes, at: int) -> bytes:
    total = layer4_checksum(source, target, protocol, body)
    if protocol == UDP:
        total = total or 0xFFFF
    return body[:at] + struct.pack("!H", total) + body[at + 2 :]


def segment6(source: str, sport: int, target: str, dport: int, flags: int = ACK, data: bytes = b"") -> bytes:
    head = struct.pack("!HHIIBBHHH", sport, dport, 1, 2, 0x50, flags, 1000, 0, 0)
    return summed(source, target, TCP, head + data, 16)


def datagram6(source: str, sport: int, target: str, dport: int, data: bytes = b"") -> bytes:
    return summed(source, target, UDP, struct.pack("!HHHH", sport, dport, 8 + len(data), 0) + data, 6)


def message6(source: str, target: str, kind: int, code: int, rest: int, data: bytes = b"") -> bytes:
    """An ICMPv6 message; `rest` is its second word."""
    return summed(source, target, ICMPV6, struct.pack("!BBHI", kind, code, 0, rest) + data, 2)


def tcp6(source: str, sport: int, target: str, dport: int, flags: int, data: bytes = b"", **ip: int) -> bytes:
    return ethernet6(ipv6(source, target, TCP, segment6(source, sport, target, dport, flags, data), **ip))


def udp6(source: str, sport: int, target: str, dport: int, data: bytes = b"", **ip: int) -> bytes:
    return ethernet6(ipv6(source, target, UDP, datagram6(source, sport, target, dport, data), **ip))


def echo6(
    source: str, target: str, identifier: int, *, reply: bool = False, data: bytes = b"ping", hops: int = 64
) -> bytes:
    kind = ECHO_REPLY if reply else ECHO_REQUEST
    body = message6(source, target, kind, 0, identifier << 16 | 1, data)
    return ethernet6(ipv6(source, target, ICMPV6, body, hops=hops))


def error6(
    source: str, target: str, quoted: bytes, *, kind: int = TOO_BIG, code: int = 0, rest: int = 1400
) -> bytes:
    """An ICMPv6 error that quotes the packet `quoted`, as much of it as fits into 1,280 bytes."""
    body = message6(source, target, kind, code, rest, quoted[:1232])
    return ethernet6(ipv6(source, target, ICMPV6, body))


def extension(next_header: int, size: int = 8, body: bytes = b"") -> bytes:
    """A hop-by-hop, destination options or routing header of `size` bytes, padded with PadN."""
    rest = size - 2 - len(body)
    padding = b"" if not rest else b"\0" if rest == 1 else struct.pack("!BB", 1, rest - 2) + bytes(rest - 2)
    return struct.pack("!BB", next_header, size // 8 - 1) + body + padding


def fragment_header(next_header: int, offset: int, more: bool, identification: int = 0x12345678) -> bytes:
    return struct.pack("!BBHI", next_header, 0, offset | more, identification)


def solicitation(
    source: str,
    target: str,
    *,
    mac: bytes | None = MAC_THERE,
    to: str | None = None,
    hops: int = 255,
    code: int = 0,
    options: bytes | None = None,
) -> bytes:
    """A neighbour solicitation; to the solicited-node group unless `to` says otherwise."""
    group = to or solicited_node(target)
    if options is None:
        options = b"" if mac is None else b"\1\1" + mac
    body = message6(source, group, SOLICITATION, code, 0, number6(target) + options)
    at = group_mac(group) if group.startswith("ff") else MAC_HERE
    return ethernet6(ipv6(source, group, ICMPV6, body, hops=hops), to=at, sender=MAC_THERE)


def advertisement(source: str, target: str, mac: bytes, *, hops: int = 255, flags: int = 0x20) -> bytes:
    """An unsolicited one, to all nodes."""
    body = message6(source, ALL_NODES, ADVERTISEMENT, 0, flags << 24, number6(target) + b"\2\1" + mac)
    return ethernet6(ipv6(source, ALL_NODES, ICMPV6, body, hops=hops), to=ALL_NODES_MAC, sender=mac)


@dataclass(frozen=True, slots=True)
class Seen6:
    """An IPv6 frame read back; the checksum in it was right (`read6` asserts that)."""

    source: str
    sport: int
    target: str
    dport: int
    protocol: int
    hops: int
    payload: bytes
    mac: bytes
    flags: int = 0
    icmp: tuple[int, int, int] = (-1, 0, 0)
    """ICMPv6: type, code and second word."""
    packet: bytes = b""
    """The whole IPv6 packet."""

    @property
    def ends(self) -> tuple[str, int, str, int]:
        return self.source, self.sport, self.target, self.dport


def skip_extensions(packet: bytes) -> tuple[int, bytes]:
    """The upper layer's protocol and bytes."""
    protocol, at = packet[6], HEADER
    while protocol in (HOP_BY_HOP, ROUTING, DESTINATION_OPTIONS, FRAGMENT):
        size = 8 if protocol == FRAGMENT else (packet[at + 1] + 1) * 8
        protocol, at = packet[at], at + size
    return protocol, packet[at:]


def read_packet6(packet: bytes, *, mac: bytes = b"", whole: bool = True) -> Seen6:
    """Takes an IPv6 packet apart. `whole` False: it was cut (a quotation, a fragment), so it cannot be summed."""
    assert packet[0] >> 4 == 6, "not IPv6"
    assert not whole or len(packet) == HEADER + int.from_bytes(packet[4:6], "big"), "payload length"
    source, target = text6(packet[8:24]), text6(packet[24:40])
    protocol, body = skip_extensions(packet)
    assert not whole or layer4_checksum(source, target, protocol, body) == 0, "layer 4 checksum"
    sport, dport = struct.unpack("!HH", body[:4])
    flags, kind, payload = 0, (-1, 0, 0), body[8:]
    if protocol == ICMPV6:
        kind, sport, dport = struct.unpack("!BBxxI", body[:8]), int.from_bytes(body[4:6], "big"), 0
    if protocol == TCP and len(body) >= 20:
        flags, payload = body[13], body[(body[12] >> 4) * 4 :]
    return Seen6(source, sport, target, dport, protocol, packet[7], payload, mac, flags, kind, packet)


def read6(frame: bytes) -> Seen6:
    assert frame[12:14] == b"\x86\xdd", "not IPv6"
    return read_packet6(frame[14:], mac=frame[:6])
