"""One flow as its client sees it, and the record of it that the judge reads."""

from __future__ import annotations

import errno
import json
import socket
from array import array

from hasyncd.lab.traffic.message import HEADER, REPLY_MAGIC, REQUEST_MAGIC, Payloads, unpack_identity
from hasyncd.lab.traffic.process import now_ns

_REPLY_BYTES_MAX = 1024
_SO_RCVBUFFORCE, _RCVBUF_BYTES = 33, 4 << 20  # asm-generic/socket.h; Python 3.11 does not name it
_IP_BIND_ADDRESS_NO_PORT = 24  # linux/in.h: the port is chosen at connect, so one serves many targets


class Flow:
    """A non-blocking socket that asks, checks the answer, and remembers when.

    `sent[i]` and `answered[i]` are moments in us since `opened_ns`; answered is -1 until the answer came.
    """

    __slots__ = (
        "answered",
        "buffer",
        "closes_ns",
        "connected_ns",
        "end",
        "fd",
        "group",
        "half_closed_ns",
        "identity",
        "index",
        "opened_ns",
        "path",
        "payloads",
        "protocol",
        "proven_ns",
        "seen",
        "sent",
        "socket",
        "waiting",
        "wrong_bytes",
    )

    by: str | None = None
    """Which end says FIN before the flow is over."""

    def __init__(
        self, index: int, protocol: str, path: str, group: str, payloads: Payloads, family: int
    ) -> None:
        self.index = index
        self.protocol = protocol
        self.path = path
        self.group = group
        self.payloads = payloads
        self.opened_ns = now_ns()
        self.connected_ns = 0
        self.closes_ns = 0
        self.half_closed_ns = 0
        self.end: tuple[int, str] | None = None
        self.sent = array("q")
        self.answered = array("q")
        self.waiting = 0
        """Requests without an answer."""
        self.proven_ns = -1
        """When the newest request that has been answered was sent; -1 before the first."""
        self.seen: list[tuple[int, int, str, int]] = []
        self.identity = b""
        self.buffer = b""
        self.wrong_bytes = 0
        kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
        self.socket = socket.socket(family, kind | socket.SOCK_NONBLOCK)
        if protocol == "udp":
            # What came while this process had no core must not be counted as lost on the way.
            self.socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RCVBUF_BYTES)
        self.fd = self.socket.fileno()

    def connect(self, source: str, target: tuple[str, int]) -> None:
        """Starts the flow; a connection that fails at once has ended."""
        try:
            if self.protocol == "tcp":
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.socket.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            self.socket.bind((source, 0))
            error = self.socket.connect_ex(target)
        except OSError as failure:
            error = failure.errno or errno.EIO
        if self.protocol == "udp" and error == 0:
            self.connected_ns = now_ns()
        elif error not in (0, errno.EINPROGRESS):
            self.finish(errno.errorcode.get(error, str(error)))

    def connection_settled(self) -> None:
        """The socket became writable or failed for the first time."""
        error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self.finish(errno.errorcode.get(error, str(error)))
        else:
            self.connected_ns = now_ns()

    def ask(self) -> None:
        """Sends the next request. TCP has one in flight at most; the kernel sees to its arrival."""
        self.send(REQUEST_MAGIC)

    def send(self, magic: int) -> None:
        """Sends a request of this kind, where one may be sent now."""
        if self.end or not self.connected_ns or (self.waiting and self.protocol == "tcp"):
            return
        sequence = len(self.sent)
        self.sent.append((now_ns() - self.opened_ns) // 1000)
        self.answered.append(-1)
        self.waiting += 1
        request = self.payloads.request(self.index, sequence, magic)
        try:
            if self.socket.send(request) != len(request):
                self.finish("short write")
        except OSError as error:
            # A datagram that the stack refuses (an ICMP error came, no buffer) is a lost datagram, no more.
            if self.protocol == "tcp":
                self.finish(errno.errorcode.get(error.errno or 0, str(error)))

    def receive(self) -> bool:
        """Reads what has come; True when the flow was heard with the right bytes."""
        try:
            data = self.socket.recv(65_536)
        except BlockingIOError:
            return False
        except OSError as error:
            if self.protocol == "tcp":
                self.finish(errno.errorcode.get(error.errno or 0, str(error)))
            return False
        if self.protocol == "udp":
            return self._accept(data)
        if not data:
            self.far_end_closed()
            return False
        before = self.proven_ns
        self.buffer = self.accept_stream(self.buffer + data)
        return self.proven_ns > before

    def far_end_closed(self) -> None:
        """The server has said FIN."""
        self.finish("closed by the far end")

    def accept_stream(self, data: bytes) -> bytes:
        """Reads whole replies from the stream; what is left over."""
        while len(data) >= HEADER.size:
            magic, length, _, _ = HEADER.unpack_from(data)
            if length > _REPLY_BYTES_MAX:
                self.break_off()
                return b""
            if len(data) < length:
                break
            self.accept_message(magic, data[:length])
            if self.end:
                return b""
            data = data[length:]
        return data

    def accept_message(self, magic: int, message: bytes) -> None:
        """One whole message of the stream."""
        if magic == REPLY_MAGIC:
            self._accept(message)
        else:
            self.break_off()

    def break_off(self) -> None:
        """A byte came over TCP that nobody had sent."""
        self.wrong_bytes += 1
        self.finish("wrong bytes")

    def _accept(self, reply: bytes) -> bool:
        read = self.payloads.read_reply(reply, self.index)
        if read is None or read[0] >= len(self.sent):
            self.wrong_bytes += 1
            if self.protocol == "tcp":
                self.finish("wrong bytes")
            return False
        sequence, identity = read
        if self.answered[sequence] >= 0:
            return False  # a datagram that came twice proves nothing new
        self.answer(sequence)
        if identity != self.identity:
            self.identity = identity
            self.seen.append((now_ns(), *unpack_identity(identity)))
        return True

    def answer(self, sequence: int) -> None:
        """What was sent under this number has been answered, now."""
        self.answered[sequence] = (now_ns() - self.opened_ns) // 1000
        self.waiting -= 1
        self.proven_ns = max(self.proven_ns, self.opened_ns + self.sent[sequence] * 1000)

    def shut(self) -> None:
        """Says FIN and goes on listening."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
            self.half_closed_ns = now_ns()
        except OSError as error:
            self.finish(errno.errorcode.get(error.errno or 0, str(error)))

    def finish(self, reason: str) -> None:
        """The flow is over: `closed` when its client wanted it so, else what went wrong."""
        if not self.end:
            self.end = (now_ns(), reason)
            self.socket.close()

    def record(self) -> str:
        """One line of JSON for the judge."""
        return json.dumps(
            {
                "flow": self.index,
                "protocol": self.protocol,
                "path": self.path,
                "group": self.group,
                "opened_ns": self.opened_ns,
                "connected_ns": self.connected_ns or None,
                "half_closed": (self.half_closed_ns, self.by) if self.half_closed_ns else None,
                "end": self.end,
                "seen": self.seen,
                "wrong_bytes": self.wrong_bytes,
                "sent_us": self.sent.tolist(),
                "answered_us": self.answered.tolist(),
            },
            separators=(",", ":"),
        )
