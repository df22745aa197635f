"""How the backup learns every flow: what both halves of a stream share. proto/sync.md §1-§8.

1. `sender.py` is the primary's half: it decides between resuming, the buckets that differ and everything, and
   knows when the peer is ready.
2. `receiver.py` is the backup's half: it says what it holds, checks generation and sequence of every frame, knows
   what is installed, and proves a sync complete by count and digest.
3. Neither knows roles, leases or timers of the pair; `conduct.py` tells them when they may work.
4. A frame that breaks a rule raises `Rejected`; the node counts it and closes the stream.
"""

from __future__ import annotations

import enum

from hasyncd.core.types import SECOND_NS

HANDSHAKE_NS = SECOND_NS
"""HELLO to RESUME or SYNC_BEGIN; proto/sync.md §10."""


STALL_NS = 3 * SECOND_NS
"""Silence of a stream on which something is owed; proto/sync.md S4a."""


class Phase(enum.Enum):
    IDLE = "idle"
    CONNECTING = "connecting"
    HELLO = "hello"
    """Sender: HELLO sent. Receiver: HELLO awaited."""
    BEGIN = "begin"
    """Receiver: HELLO_REPLY sent, RESUME or SYNC_BEGIN awaited."""
    STREAMING = "streaming"
    LEFT = "left"
    """Receiver: LEAVING came; nothing follows."""


class StreamRefused(Exception):
    """The peer answered HELLO with REFUSE."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
