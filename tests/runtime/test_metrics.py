"""hasyncd.runtime.metrics: what a scrape of a real node says, and that it is what the documentation names."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from hasyncd._native import OUTSIDE
from hasyncd.core.types import Role
from hasyncd.runtime import metric_names
from hasyncd.runtime.clock import now_ns
from hasyncd.runtime.loop_lag import BOUNDS_S, LoopLag
from hasyncd.runtime.metric_counters import CACHE_MISSES, COUNTERS, DROP_REASONS
from hasyncd.runtime.metric_names import OWN, PROCESS
from hasyncd.runtime.metrics import Exposition
from tests.native.frames import SYN, tcp
from tests.runtime.pair import SERVER, Member, members, synced_pair, until

MILLISECOND = 1_000_000


def exposition(member: Member) -> Exposition:
    return Exposition(
        member.settings, member.shell, member.report, member.services, LoopLag(10 * MILLISECOND)
    )


async def scrape(member: Member) -> dict[str, Metric]:
    """The families by name, as Prometheus reads them."""
    text = (await exposition(member).text()).decode()
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families), "each family stands in one place"
    return {family.name: family for family in families}


def value(families: dict[str, Metric], name: str, **labels: str) -> float | None:
    """Of the one series with these labels; None where there is none."""
    found = [
        sample.value
        for family in families.values()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    assert len(found) <= 1, f"{name} {labels}: {found}"
    return found[0] if found else None


async def test_every_metric_is_documented_and_every_documented_one_is_exported(tmp_path: Path) -> None:
    async with synced_pair(tmp_path) as (a, _):
        families = await scrape(a)
        documented = {family.name: family for family in (*OWN, *COUNTERS.values(), *PROCESS)}
        seen = {}
        for family in families.values():
            suffix = "_total" if family.type == "counter" else ""
            seen[family.name.removesuffix("_total") + suffix] = family
        assert seen.keys() == documented.keys()
        for name, family in seen.items():
            kind = documented[name].kind
            assert family.type == ("gauge" if kind == "info" else kind), name
            if name not in {process.name for process in PROCESS}:
                assert family.documentation == documented[name].meaning
            for sample in family.samples:
                assert sample.labels.keys() - {"le"} == set(documented[name].labels), name


async def test_what_the_engine_counts_is_exported_by_a_name_of_its_own(tmp_path: Path) -> None:
    async with members(tmp_path) as (a, _):
        counted = a.engine.counters().keys()
        drops = {name.removeprefix("drop_") for name in counted if name.startswith("drop_")}
        assert drops == DROP_REASONS.keys(), "a line for each in metric_counters.py"
        misses = {name.removeprefix("cache_miss_") for name in counted if name.startswith("cache_miss_")}
        assert misses == CACHE_MISSES.keys(), "a line for each in metric_counters.py"
        plain = {name for name in counted if not name.startswith(("drop_", "cache_miss_", "rejected_"))}
        assert plain == COUNTERS.keys(), "a line for each in metric_counters.py"


def test_names_follow_prometheus_conventions() -> None:
    families = (*OWN, *COUNTERS.values())
    names = [family.name for family in families]
    bases = [name.removesuffix("_total") for name in names]
    assert len(set(bases)) == len(bases), "a counter and a gauge of one name are one family to some readers"
    for family in families:
        assert family.name.startswith("hasyncd_"), family.name
        assert family.name.endswith("_total") == (family.kind == "counter"), family.name
        assert family.name.endswith("_info") == (family.kind == "info"), family.name
        assert not family.name.endswith(("_ms", "_ns", "_milliseconds")), f"{family.name}: seconds"
        assert family.meaning.endswith("."), family.name


async def test_a_ready_primary(tmp_path: Path) -> None:
    async with synced_pair(tmp_path) as (a, b):
        for index in range(30):
            a.open_flow(index)
        for port in range(5000, 5003):
            a.engine.inject(OUTSIDE, tcp(SERVER, port, "203.0.113.5", 80, SYN), now_ns())
        await until(lambda: b.table[0] == 33 and a.engine.count_at_risk()[0] == 0, "b has them")
        seen = await scrape(a)
        assert value(seen, "hasyncd_role", role="primary") == 1
        assert value(seen, "hasyncd_role", role="backup") == 0
        assert value(seen, "hasyncd_generation") == 1
        assert value(seen, "hasyncd_forwarding") == 1
        assert value(seen, "hasyncd_peer_state", state="connected") == 1
        assert value(seen, "hasyncd_sync_state", state="ready") == 1
        assert value(seen, "hasyncd_flows", proto="udp") == 30
        assert value(seen, "hasyncd_flows", proto="tcp") == value(seen, "hasyncd_half_open_flows") == 3
        assert value(seen, "hasyncd_flows_created_total") == 33
        assert value(seen, "hasyncd_at_risk_flows") == 0
        assert value(seen, "hasyncd_digest_match") == 1
        assert value(seen, "hasyncd_backend_flows", service="web", backend="21") == 3
        assert value(seen, "hasyncd_service_flows", service="web") == 3
        assert value(seen, "hasyncd_backend_up", service="web", backend="21") == 1
        assert value(seen, "hasyncd_backend_info", address="10.0.1.21:8080", state="up") == 1
        assert value(seen, "hasyncd_dropped_packets_total", reason="table_full") == 0
        for direction in ("sent", "received"):
            beats = value(seen, f"hasyncd_heartbeats_{direction}_total", path="sync")
            assert beats is not None
            assert beats > 0
        assert value(seen, "hasyncd_role_changes_total", role="primary", reason="first_election") == 1
        assert value(seen, "hasyncd_node_info", node="gw-a", engine="packet") == 1


async def test_what_is_not_known_has_no_series(tmp_path: Path) -> None:
    async with members(tmp_path) as (a, _):
        seen = await scrape(a)
        for name in ("at_risk_flows", "peer_last_heard_seconds", "digest_match", "takeover_complete"):
            assert value(seen, f"hasyncd_{name}") is None, name
        assert value(seen, "hasyncd_role", role="init") == 1


async def test_a_failover_counts_by_its_reason(tmp_path: Path) -> None:
    async with synced_pair(tmp_path) as (a, b):
        a.open_flow(0)
        await until(lambda: b.table[0] == 1, "b has it")
        a.die()
        await until(lambda: b.node.role is Role.PRIMARY, "b is primary")
        seen = await scrape(b)
        assert value(seen, "hasyncd_role_changes_total", role="primary", reason="process_dead") == 1
        assert value(seen, "hasyncd_takeover_complete") == 1
        assert value(seen, "hasyncd_takeover_missing_flows") == 0
        assert value(seen, "hasyncd_events_total", event="role_changed") >= 1
        assert value(seen, "hasyncd_role_changed_timestamp_seconds") > 1e9


async def test_the_event_loop_turns_while_a_scrape_is_made(tmp_path: Path) -> None:
    async with members(tmp_path) as (a, _):
        turns = 0

        async def spin() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        spinner = asyncio.ensure_future(spin())
        await asyncio.sleep(0)
        text = await exposition(a).text()
        spinner.cancel()
        assert turns > len([line for line in text.splitlines() if line.startswith(b"# TYPE hasyncd")]) - 5


@pytest.mark.parametrize(
    ("late_ms", "bucket"), [(0, "0.001"), (3, "0.005"), (20, "0.02"), (700, "1.0"), (9000, "+Inf")]
)
def test_lateness_is_what_the_timer_took_beyond_its_period(late_ms: int, bucket: str) -> None:
    lag = LoopLag(10 * MILLISECOND)
    lag.wake(5)  # the first time: nobody knows when it was set
    lag.sleep(50 * MILLISECOND)
    lag.wake((60 + late_ms) * MILLISECOND)
    counted = dict(lag.buckets())
    assert counted[bucket] == counted["+Inf"] == 1
    assert sum(counted.values()) == len(counted) - list(counted).index(bucket)
    assert lag.max_s == pytest.approx(late_ms / 1000)
    assert len(counted) == len(BOUNDS_S) + 1


def test_the_list_of_names_misses_none() -> None:
    declared = {value.name for value in vars(metric_names).values() if isinstance(value, metric_names.Family)}
    assert {family.name for family in OWN} == declared
