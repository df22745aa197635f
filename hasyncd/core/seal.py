"""The seal of a heartbeat: proto/pair.md §8. Bytes are judged here before anything else looks at them.

A sealed datagram is the tag, 16 bytes, and then the heartbeat.
"""

from __future__ import annotations

import hmac

from hasyncd.core.wire import Rejected

TAG_BYTES = 16
"""HMAC-SHA-256, its first half."""
SECRET_BYTES = 32

_SALT = b"hasyncd pair 1"
_PURPOSE = b"heartbeat"


def derive_key(secret: bytes, sender: str, receiver: str) -> bytes:
    """The key of one direction: HKDF-SHA-256 (RFC 5869) of the pair's secret, bound to both names."""
    # Names hold no zero byte, so no two pairs of names give the same bytes.
    info = b"\0".join((_PURPOSE, sender.encode(), receiver.encode()))
    extracted = hmac.digest(_SALT, secret, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


def seal(key: bytes, payload: bytes) -> bytes:
    """A datagram for whoever holds `key`."""
    return _tag(key, payload) + payload


def unseal(key: bytes, datagram: bytes) -> bytes:
    """The heartbeat inside. Raises `Rejected` (`unauthenticated`)."""
    payload = datagram[TAG_BYTES:]
    if not hmac.compare_digest(_tag(key, payload), datagram[:TAG_BYTES]):
        raise Rejected("unauthenticated")
    return payload


def _tag(key: bytes, payload: bytes) -> bytes:
    return hmac.digest(key, payload, "sha256")[:TAG_BYTES]
