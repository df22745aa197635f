"""nat_full: no allocation fails while a port is free, at any occupancy."""

from __future__ import annotations

from pathlib import Path

from hasyncd.bench.nat import allocate, build_allocator


def test_every_port_is_found_and_given_out_before_a_refusal(tmp_path: Path) -> None:
    *occupancies, last = allocate(build_allocator(tmp_path))
    assert [(one["percent"], one["free"]) for one in occupancies] == [
        (50, 32_256), (90, 6_452), (95, 3_226), (99, 646),
    ]  # fmt: skip
    for one in occupancies:
        assert one["trials"] == 20_000
        assert one["failures"] == 0
        assert 0 < one["p50_us"] <= one["p99_us"] <= one["max_us"]
        assert 1 <= one["probes"] <= 100, "bounded, and not the kernel's 248 tries"
    assert last == {"free": 646, "given": 646}
