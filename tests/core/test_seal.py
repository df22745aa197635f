"""hasyncd.core.seal: the key of a direction, against RFC 5869, and what opens a seal. Bytes are in proto/vectors."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hasyncd.core.seal import TAG_BYTES, derive_key, seal, unseal
from hasyncd.core.wire import Rejected

SECRET = bytes(range(32))


def test_the_key_is_what_another_implementation_of_hkdf_derives() -> None:
    info = b"heartbeat\0gw-a\0gw-b"
    assert derive_key(SECRET, "gw-a", "gw-b") == HKDF(SHA256(), 32, b"hasyncd pair 1", info).derive(SECRET)


def test_every_direction_and_every_pair_has_its_own_key() -> None:
    names = [("a", "b"), ("b", "a"), ("a", "bb"), ("ab", "b"), ("aa", "b")]
    assert len({derive_key(SECRET, *each) for each in names} | {derive_key(bytes(32), "a", "b")}) == 6


def test_every_changed_bit_breaks_the_seal() -> None:
    key = derive_key(SECRET, "a", "b")
    datagram = seal(key, b"heartbeat")
    assert len(datagram) == TAG_BYTES + 9
    assert unseal(key, datagram) == b"heartbeat"
    for bit in range(8 * len(datagram)):
        changed = bytearray(datagram)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Rejected, match="unauthenticated"):
            unseal(key, bytes(changed))
