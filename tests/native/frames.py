"""Ethernet frames made and read by hand: what a wire carries, without a library that repairs it."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

ICMP, TCP, UDP = 1, 6, 17
FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10
MAC_THERE, MAC_HERE = b"\x06" * 6, b"\x02" * 6


def number(address: str) -> int:
    """An address as the engine takes it: an int in host order."""
    return int(struct.unpack("!I", socket.inet_aton(address))[0])


def checksum(data: bytes) -> int:
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def pseudo_header(source: str, target: str, protocol: int, length: int) -> bytes:
    return socket.inet_aton(source) + socket.inet_aton(target) + struct.pack("!BBH", 0, protocol, length)


def ipv4(
    source: str,
    target: str,
    protocol: int,
    payload: bytes,
    *,
    ttl: int = 64,
    fragment: int = 0x4000,
    options: bytes = b"",
) -> bytes:
    """An IPv4 packet; `fragment` is flags and offset (0x4000: do not fragment)."""
    head = struct.pack(
        "!BBHHHBBH4s4s",
        0x40 | (5 + len(options) // 4),
        0,
        20 + len(options) + len(payload),
        0x1234,
        fragment,
        ttl,
        protocol,
        0,
        socket.inet_aton(source),
        socket.inet_aton(target),
    )
    whole = head + options
    return whole[:10] + struct.pack("!H", checksum(whole)) + whole[12:] + payload


def ethernet(packet: bytes, kind: int = 0x0800) -> bytes:
    return MAC_HERE + MAC_THERE + struct.pack("!H", kind) + packet


def segment(source: str, sport: int, target: str, dport: int, flags: int, data: bytes = b"") -> bytes:
    head = struct.pack("!HHIIBBHHH", sport, dport, 1, 2, 0x50, flags, 1000, 0, 0)
    total = checksum(pseudo_header(source, target, TCP, 20 + len(data)) + head + data)
    return head[:16] + struct.pack("!H", total) + head[18:] + data


def datagram(
    source: str, sport: int, target: str, dport: int, data: bytes = b"", *, summed: bool = True
) -> bytes:
    head = struct.pack("!HHHH", sport, dport, 8 + len(data), 0)
    total = checksum(pseudo_header(source, target, UDP, 8 + len(data)) + head + data) or 0xFFFF
    return head[:6] + struct.pack("!H", total if summed else 0) + data


def icmp(kind: int, code: int, rest: int, data: bytes = b"") -> bytes:
    head = struct.pack("!BBHI", kind, code, 0, rest)
    return head[:2] + struct.pack("!H", checksum(head + data)) + head[4:] + data


def tcp(source: str, sport: int, target: str, dport: int, flags: int, data: bytes = b"") -> bytes:
    return ethernet(ipv4(source, target, TCP, segment(source, sport, target, dport, flags, data)))


def udp(
    source: str,
    sport: int,
    target: str,
    dport: int,
    data: bytes = b"",
    *,
    fragment: int = 0x4000,
    summed: bool = True,
) -> bytes:
    payload = datagram(source, sport, target, dport, data, summed=summed)
    return ethernet(ipv4(source, target, UDP, payload, fragment=fragment))


def echo(
    source: str, target: str, identifier: int, *, reply: bool = False, data: bytes = b"ping", ttl: int = 64
) -> bytes:
    message = icmp(0 if reply else 8, 0, identifier << 16 | 1, data)
    return ethernet(ipv4(source, target, ICMP, message, ttl=ttl))


def error(
    source: str, target: str, quoted: bytes, *, kind: int = 3, code: int = 4, rest: int = 1280
) -> bytes:
    """An ICMP error that quotes the IPv4 packet `quoted` (cut it before, as a router does)."""
    return ethernet(ipv4(source, target, ICMP, icmp(kind, code, rest, quoted)))


def arp(operation: int, sender_mac: bytes, sender: str, target: str, target_mac: bytes = b"\0" * 6) -> bytes:
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation)
    body += sender_mac + socket.inet_aton(sender) + target_mac + socket.inet_aton(target)
    return b"\xff" * 6 + sender_mac + struct.pack("!H", 0x0806) + body


@dataclass(frozen=True, slots=True)
class Seen:
    """A frame read back; every checksum in it was right (`read` asserts that)."""

    source: str
    sport: int
    target: str
    dport: int
    protocol: int
    ttl: int
    payload: bytes
    mac: bytes
    flags: int = 0
    icmp_type: int = -1
    packet: bytes = b""
    """The whole IPv4 packet."""

    @property
    def ends(self) -> tuple[str, int, str, int]:
        return self.source, self.sport, self.target, self.dport


def read_packet(packet: bytes, *, mac: bytes = b"", whole: bool = True) -> Seen:
    """Takes an IPv4 packet apart. `whole` False: it was cut (a quotation), so layer 4 cannot be summed."""
    header = (packet[0] & 15) * 4
    assert checksum(packet[:header]) == 0, "IPv4 header checksum"
    protocol, body = packet[9], packet[header : int.from_bytes(packet[2:4], "big")]
    source, target = socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20])
    sport, dport = struct.unpack("!HH", body[:4])
    flags, kind, payload = 0, -1, body[8:]
    if protocol == ICMP:
        kind, sport, dport = body[0], int.from_bytes(body[4:6], "big"), 0
        assert not whole or checksum(body) == 0, "ICMP checksum"
    else:
        summed = protocol == TCP or body[6:8] != b"\0\0"
        if whole and summed:
            assert checksum(pseudo_header(source, target, protocol, len(body)) + body) == 0, (
                "layer 4 checksum"
            )
    if protocol == TCP and len(body) >= 20:
        flags, payload = body[13], body[(body[12] >> 4) * 4 :]
    return Seen(source, sport, target, dport, protocol, packet[8], payload, mac, flags, kind, packet)


def read(frame: bytes) -> Seen:
    assert frame[12:14] == b"\x08\0", "not IPv4"
    return read_packet(frame[14:], mac=frame[:6])
