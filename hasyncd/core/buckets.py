"""Buckets of a table: how many, and which of them are suspect. proto/sync.md §8, §4."""

from __future__ import annotations

SLOTS_MIN = 16
BUCKETS_MAX = 65_536
DIGEST_BYTES = 8


def slots_of_bucket(capacity: int) -> int:
    """Consecutive slots that share a digest in a table of `capacity` slots."""
    slots = SLOTS_MIN
    while -(-capacity // slots) > BUCKETS_MAX:
        slots *= 2
    return slots


def bucket_count(capacity: int) -> int:
    return -(-capacity // slots_of_bucket(capacity))


def digests_fit(digests: bytes, capacity: int) -> bool:
    return len(digests) == bucket_count(capacity) * DIGEST_BYTES


def suspects_fit(suspects: bytes, capacity: int) -> bool:
    """A bit for each bucket, and none behind the last."""
    buckets = bucket_count(capacity)
    unused = suspects[-1] >> (buckets - 1) % 8 + 1 if suspects else 0
    return len(suspects) == -(-buckets // 8) and not unused


def count_suspects(suspects: bytes, capacity: int) -> int:
    """How many buckets a SYNC_BEGIN names; empty means every one."""
    return int.from_bytes(suspects).bit_count() if suspects else bucket_count(capacity)
