"""What a probe is: one question to one backend. Each kind has a file of its own (`probes_*.py`).

A probe asks from the machine itself, through its kernel: the source is the node's own address on the backend's LAN,
never a VIP. So primary and backup check alike, no answer depends on who owns the addresses, and a takeover moves no
check.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

_LOCAL_SHORTAGES: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL, errno.EAGAIN}
)
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class Target(NamedTuple):
    """Whom a probe asks, and how long it may take."""

    service: str
    backend: int
    address: str
    port: int
    timeout_s: float


class Unwell(Exception):
    """The backend answered, and not as one does that is well; the message says what was wrong."""


class CannotAsk(Exception):
    """What is missing is missing here: it says nothing about the backend."""


Ask = Callable[[Target], Awaitable[str]]
"""Asks once; returns what was good. Raises Unwell, CannotAsk, OSError. Cancelled, it leaves nothing open."""


@dataclass(frozen=True, slots=True)
class Probe:
    """How a service's backends are asked."""

    ask: Ask
    silence: str | None = None
    """Where silence until the time is up is good: what is said of it then."""


def reason_of(error: OSError) -> str:
    """What the kernel said. Raises CannotAsk where it speaks of this machine, and not of the backend."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in _LOCAL_SHORTAGES:
        raise CannotAsk(reason) from None
    return reason


def open_socket(address: str, kind: socket.SocketKind) -> socket.socket:
    """For one question, of the address's family. TCP is reset by `close`: no TIME_WAIT is left on either side."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    opened = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    if kind is socket.SOCK_STREAM:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    return opened
