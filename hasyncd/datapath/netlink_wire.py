"""Netlink messages as bytes: pyroute2 writes and reads them, this file frames them.

pyroute2 brings the message classes; its sockets run an event loop of their own, so the sockets here are
ours (`NetlinkRequests` for set-up, `netlink.Netlink` for what streams).
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pyroute2.netlink import nlmsg

if TYPE_CHECKING:
    from types import TracebackType

NLM_F_REQUEST: Final = 0x001
NLM_F_MULTI: Final = 0x002
NLM_F_ACK: Final = 0x004
NLM_F_DUMP_INTERRUPTED: Final = 0x010
NLM_F_DUMP: Final = 0x300
NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400

NLMSG_NOOP: Final = 1
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3

SOL_NETLINK: Final = 270
NETLINK_EXT_ACK: Final = 11
NETLINK_GET_STRICT_CHECK: Final = 12

RECEIVE_BYTES: Final = 16_384
"""One datagram of a dump at most: about 200 neighbours, 4 ms of decoding."""

_REQUEST_RECEIVE_BYTES: Final = 262_144
_REQUEST_TIMEOUT_S: Final = 5.0
_HEADER: Final = struct.Struct("=IHHII")
_ERRNO: Final = struct.Struct("=i")
_ATTRIBUTE: Final = struct.Struct("=HH")
_SO_RCVBUFFORCE: Final = 33
_NLM_F_CAPPED: Final = 0x100
_NLM_F_ACK_TLVS: Final = 0x200
_NLMSGERR_ATTR_MSG: Final = 1


class NetlinkError(OSError):
    """The kernel refused a request, with its errno and, where it gives one, its own words."""


class Frame(NamedTuple):
    """One netlink message, header included in `data`."""

    kind: int
    flags: int
    sequence: int
    data: bytes

    @property
    def error(self) -> int:
        """The errno (positive; 0 = acknowledged) of an NLMSG_ERROR or NLMSG_DONE frame."""
        if len(self.data) < _HEADER.size + _ERRNO.size:
            return 0
        (code,) = _ERRNO.unpack_from(self.data, _HEADER.size)
        return -int(code) if code < 0 else 0


def encode(message: nlmsg, kind: int, flags: int, sequence: int) -> bytes:
    """The bytes of a request."""
    message["header"] = {"type": kind, "flags": NLM_F_REQUEST | flags, "sequence_number": sequence, "pid": 0}
    message.encode()
    return bytes(message.data)


def split(datagram: bytes) -> Iterator[Frame]:
    """The messages of a datagram; a truncated last one is left out."""
    offset = 0
    while len(datagram) - offset >= _HEADER.size:
        length, kind, flags, sequence, _ = _HEADER.unpack_from(datagram, offset)
        if length < _HEADER.size or len(datagram) - offset < length:
            return
        yield Frame(kind, flags, sequence, datagram[offset : offset + length])
        offset += (length + 3) & ~3


def decode(message_type: type[Any], frame: Frame) -> Any:
    """The frame as an object of one of pyroute2's message classes."""
    message = message_type(frame.data)
    message.decode()
    return message


def error_of(frame: Frame, doing: str) -> NetlinkError:
    """The exception for an error frame: errno, and the kernel's own explanation if it sent one."""
    explanation = _extended_message(frame)
    text = os.strerror(frame.error) + (f" ({explanation})" if explanation else "")
    return NetlinkError(frame.error, f"{doing}: {text}")


def _extended_message(frame: Frame) -> str:
    if frame.kind != NLMSG_ERROR or not frame.flags & _NLM_F_ACK_TLVS:
        return ""
    inner_offset = _HEADER.size + _ERRNO.size
    (inner_length,) = struct.unpack_from("=I", frame.data, inner_offset)
    capped = frame.flags & _NLM_F_CAPPED
    offset = inner_offset + (_HEADER.size if capped else (inner_length + 3) & ~3)
    while len(frame.data) - offset >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(frame.data, offset)
        if length < _ATTRIBUTE.size:
            break
        if kind & 0x3FFF == _NLMSGERR_ATTR_MSG:
            text = frame.data[offset + _ATTRIBUTE.size : offset + length]
            return text.rstrip(b"\0").decode("utf-8", "replace")
        offset += (length + 3) & ~3
    return ""


def open_monitor(groups: int, receive_buffer: int) -> socket.socket:
    """A non-blocking rtnetlink socket that receives the events of `groups` (bits); raises OSError."""
    kernel = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
    )
    try:
        try:
            kernel.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, receive_buffer)
        except PermissionError:
            kernel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        kernel.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHECK, 1)
        kernel.bind((0, groups))
    except OSError:
        kernel.close()
        raise
    return kernel


class NetlinkRequests:
    """A blocking rtnetlink socket for set-up: well below a millisecond a request. A context manager."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        try:
            self._socket.settimeout(_REQUEST_TIMEOUT_S)
            self._socket.bind((0, 0))
            self._socket.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
        except OSError:
            self._socket.close()
            raise
        self._sequence = 0

    def __enter__(self) -> NetlinkRequests:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def perform(self, message: nlmsg, kind: int, flags: int, doing: str) -> None:
        """Sends one request and waits for its acknowledgement; raises NetlinkError."""
        for _ in self._exchange(message, kind, flags | NLM_F_ACK, doing):
            pass

    def dump(self, message: nlmsg, kind: int, doing: str) -> list[Any]:
        """Every object of a table, as objects of `message`'s class; raises NetlinkError."""
        frames = self._exchange(message, kind, NLM_F_DUMP, doing)
        return [decode(type(message), frame) for frame in frames]

    def _exchange(self, message: nlmsg, kind: int, flags: int, doing: str) -> Iterator[Frame]:
        self._sequence += 1
        try:
            self._socket.send(encode(message, kind, flags, self._sequence))
            while True:
                for frame in split(self._socket.recv(_REQUEST_RECEIVE_BYTES)):
                    if frame.sequence != self._sequence or frame.kind == NLMSG_NOOP:
                        continue
                    if frame.kind in (NLMSG_ERROR, NLMSG_DONE):
                        if frame.error:
                            raise error_of(frame, doing)
                        return
                    yield frame
        except TimeoutError as error:
            raise NetlinkError(error.errno or 0, f"{doing}: the kernel did not answer") from error
