"""Connections of which one end has said FIN while the other goes on: RFC 9293 §3.6, FIN-WAIT-2 against CLOSE-WAIT.

client's FIN   the client asks twice, the second time for more, and shuts its direction. The server then sends a
               push every 150 ms, with the moment of its sending: that is what the judge takes for the question.
server's FIN   the client asks twice, the second time with a farewell: the server answers and shuts its direction.
               The client asks on. Nobody answers any more, but the server checks every byte (and resets the
               connection at a wrong one), and its kernel's ACK of the last one is the answer.
"""

from __future__ import annotations

import errno
import fcntl
import struct
import termios

from hasyncd.lab.traffic.flow import Flow
from hasyncd.lab.traffic.message import FAREWELL_MAGIC, HEADER, MORE_MAGIC, PUSH_MAGIC
from hasyncd.lab.traffic.process import now_ns


class ClientClosed(Flow):
    """Its client has said all it had to say, and listens."""

    __slots__ = ()
    by = "client"

    def ask(self) -> None:
        """The first question as ever, the second with the FIN behind it, and no third."""
        if self.half_closed_ns or self.end:
            return
        if not self.seen:
            super().ask()
            return
        before = len(self.sent)
        self.send(MORE_MAGIC)
        if self.end is None and len(self.sent) > before:
            self.shut()

    def accept_message(self, magic: int, message: bytes) -> None:
        """A push is an answer too; behind a silence it comes together with what was said before."""
        if magic != PUSH_MAGIC:
            super().accept_message(magic, message)
            return
        sent_ns = self.payloads.read_push(message, self.index)
        if sent_ns is None or HEADER.unpack_from(message)[3] != len(self.sent):
            self.break_off()
            return
        self.sent.append((sent_ns - self.opened_ns) // 1000)
        self.answered.append((now_ns() - self.opened_ns) // 1000)
        self.proven_ns = max(self.proven_ns, sent_ns)


class ServerClosed(Flow):
    """Its server has said all it had to say; the client goes on, and hears by ACKs alone."""

    __slots__ = ()
    by = "server"

    def ask(self) -> None:
        """Asks on; the second time with a farewell."""
        if self.half_closed_ns:
            self.settle()
            super().ask()
        elif self.seen and len(self.sent) == 1:
            self.send(FAREWELL_MAGIC)
        elif not self.seen:
            super().ask()

    def far_end_closed(self) -> None:
        """What was asked for."""
        if len(self.sent) < 2 or self.waiting:
            super().far_end_closed()
        else:
            self.half_closed_ns = now_ns()

    def settle(self) -> None:
        """Whether the far kernel has acknowledged all that was sent (SIOCOUTQ, tcp(7)); to be asked often."""
        if not self.half_closed_ns or not self.waiting or self.end:
            return
        try:
            queued = struct.unpack("i", fcntl.ioctl(self.socket, termios.TIOCOUTQ, b"\0\0\0\0"))[0]
        except OSError as error:
            self.finish(errno.errorcode.get(error.errno or 0, str(error)))
            return
        if not queued:
            self.answer(len(self.sent) - 1)
