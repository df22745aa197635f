"""What flows say: requests and replies whose every byte the other end can predict.

    request   magic 0x48535251 | length | flow | seq                                  | payload
    reply     magic 0x48535250 | length | flow | seq | server | seen port | seen addr | payload

    push      magic 0x48535350 | length | flow | seq | sent u64, ns of CLOCK_BOOTTIME                        | payload

All u32 but `server` and `seen port` (u16), `sent` and `seen addr` (16 bytes, IPv4 mapped into IPv6); `seen` is the
source that the server saw, so that the client notices when another server or another source answers for its flow.
A request's magic says what comes next: the client asks on (0x48535251), it says FIN and listens to pushes
(0x4853524d), or it asks on and the server says FIN (0x48535246).
"""

from __future__ import annotations

import random
import socket
import struct

REQUEST_MAGIC = 0x48535251
MORE_MAGIC = 0x4853524D
FAREWELL_MAGIC = 0x48535246
REQUEST_MAGICS = frozenset((REQUEST_MAGIC, MORE_MAGIC, FAREWELL_MAGIC))
REPLY_MAGIC = 0x48535250
PUSH_MAGIC = 0x48535350
HEADER = struct.Struct("!IIII")
REPLY_HEADER = struct.Struct("!IIIIHH16s")
_PUSH_HEADER = struct.Struct("!IIIIQ")
REQUEST_BYTES_MAX = HEADER.size + 512

_OFFSETS = 65_521
_REPLY_SHIFT = 7_919


class Payloads:
    """The bytes of every request and reply of one run, known to both ends by its seed."""

    def __init__(self, seed: int) -> None:
        self._block = random.Random(seed).randbytes(2 * _OFFSETS)

    def of_request(self, flow: int, seq: int) -> bytes:
        """The payload of a request: 32 to 511 bytes."""
        offset = (flow * 2_654_435_761 + seq * 40_503) % _OFFSETS
        return self._block[offset : offset + 32 + (flow * 13 + seq * 97) % 480]

    def of_reply(self, flow: int, seq: int) -> bytes:
        """The payload of a reply: as long as the request's, other bytes."""
        offset = (flow * 2_654_435_761 + seq * 40_503 + _REPLY_SHIFT) % _OFFSETS
        return self._block[offset : offset + 32 + (flow * 13 + seq * 97) % 480]

    def request(self, flow: int, seq: int, magic: int = REQUEST_MAGIC) -> bytes:
        """A whole request."""
        payload = self.of_request(flow, seq)
        return HEADER.pack(magic, HEADER.size + len(payload), flow, seq) + payload

    def reply_to(self, request: bytes, identity: bytes) -> bytes | None:
        """The reply to one whole request, or None where its bytes are not what was sent.

        `identity`: server u16, seen port u16, seen address, packed.
        """
        if len(request) < HEADER.size:
            return None
        magic, length, flow, seq = HEADER.unpack_from(request)
        if magic not in REQUEST_MAGICS or length != len(request):
            return None
        if request[HEADER.size :] != self.of_request(flow, seq):
            return None
        payload = self.of_reply(flow, seq)
        return HEADER.pack(REPLY_MAGIC, REPLY_HEADER.size + len(payload), flow, seq) + identity + payload

    def read_reply(self, reply: bytes, flow: int) -> tuple[int, bytes] | None:
        """(seq, identity) of one whole reply to `flow`, or None where a byte is wrong."""
        if len(reply) < REPLY_HEADER.size:
            return None
        magic, length, its_flow, seq = HEADER.unpack_from(reply)
        if magic != REPLY_MAGIC or length != len(reply) or its_flow != flow:
            return None
        if reply[REPLY_HEADER.size :] != self.of_reply(flow, seq):
            return None
        return seq, reply[HEADER.size : REPLY_HEADER.size]

    def push(self, flow: int, seq: int, sent_ns: int) -> bytes:
        """What a server says unasked."""
        payload = self.of_reply(flow, seq)
        return _PUSH_HEADER.pack(PUSH_MAGIC, _PUSH_HEADER.size + len(payload), flow, seq, sent_ns) + payload

    def read_push(self, push: bytes, flow: int) -> int | None:
        """When one whole push to `flow` was sent, or None where a byte is wrong."""
        if len(push) < _PUSH_HEADER.size:
            return None
        magic, length, its_flow, seq, sent_ns = _PUSH_HEADER.unpack_from(push)
        if magic != PUSH_MAGIC or length != len(push) or its_flow != flow:
            return None
        return int(sent_ns) if push[_PUSH_HEADER.size :] == self.of_reply(flow, seq) else None


_MAPPED = bytes(10) + b"\xff\xff"


def pack_identity(server: int, address: str, port: int) -> bytes:
    """What a server says of itself and of the peer it saw."""
    if ":" in address:
        return struct.pack("!HH16s", server, port, socket.inet_pton(socket.AF_INET6, address))
    return struct.pack("!HH12s4s", server, port, _MAPPED, socket.inet_aton(address))


def unpack_identity(identity: bytes) -> tuple[int, str, int]:
    """(server, seen address, seen port)."""
    server, port, address = struct.unpack("!HH16s", identity)
    if address.startswith(_MAPPED):
        return server, socket.inet_ntoa(address[len(_MAPPED) :]), port
    return server, socket.inet_ntop(socket.AF_INET6, address), port
