"""Buckets: the same partition of slots on both nodes, whatever the table."""

from __future__ import annotations

import pytest

from hasyncd.core.buckets import (
    BUCKETS_MAX,
    bucket_count,
    count_suspects,
    digests_fit,
    slots_of_bucket,
    suspects_fit,
)


@pytest.mark.parametrize(
    ("capacity", "slots", "buckets"),
    [
        (1, 16, 1), (16, 16, 1), (17, 16, 2), (1000, 16, 63), (1 << 20, 16, 65_536), ((1 << 20) + 1, 32, 32_769),
        (8 << 20, 128, 65_536), (2**32 - 1, 65_536, 65_536),
    ],
)  # fmt: skip
def test_a_bucket_is_sixteen_slots_doubled_until_there_are_few_enough(
    capacity: int, slots: int, buckets: int
) -> None:
    assert (slots_of_bucket(capacity), bucket_count(capacity)) == (slots, buckets)
    assert bucket_count(capacity) <= BUCKETS_MAX
    assert digests_fit(bytes(8 * buckets), capacity)
    assert not digests_fit(bytes(8 * buckets - 1), capacity)


def test_a_bit_for_each_bucket_and_none_behind_the_last() -> None:
    assert suspects_fit(bytes.fromhex("ffffffffffffff7f"), 1000)
    assert not suspects_fit(bytes.fromhex("0000000000000080"), 1000), "bucket 63 of 63"
    assert not suspects_fit(bytes(7), 1000)
    assert not suspects_fit(bytes(9), 1000)
    assert not suspects_fit(b"", 1000)
    assert suspects_fit(b"\xff", 128)
    assert suspects_fit(b"\x01", 1)
    assert not suspects_fit(b"\x02", 1)


def test_no_suspects_named_means_every_bucket() -> None:
    assert count_suspects(b"", 1000) == 63
    assert count_suspects(bytes(8), 1000) == 0
    assert count_suspects(bytes.fromhex("0100000000000040"), 1000) == 2
