"""A bench row: exactly the keys that other programs read."""

from __future__ import annotations

from hasyncd.bench.row import Row, middle


def test_a_row_has_the_fixed_keys_and_a_ratio() -> None:
    row = Row("forward.udp64", "nat", "packets/s", "higher", 500.0, "kernel nft", 400.0, samples=5)
    told = row.to_json()
    assert list(told) == [
        "name", "variant", "unit", "better", "value", "baseline", "baseline_value", "ratio", "samples", "p50",
        "p99", "cores", "notes",
    ]  # fmt: skip
    assert told["ratio"] == 1.25


def test_a_row_without_a_baseline_has_no_ratio() -> None:
    assert Row("table.lookup", "", "lookups/s", "higher", 1.0).ratio is None
    assert Row("table.lookup", "", "lookups/s", "higher", None, "x", 2.0).ratio is None


def test_the_median_of_nothing_is_nothing() -> None:
    assert middle([]) is None
    assert middle([3.0, 1.0, 2.0]) == 2.0
