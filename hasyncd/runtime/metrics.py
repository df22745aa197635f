"""What Prometheus gets: the status and the counters of this moment, in pieces between which the event loop turns.

Nothing is counted for the sake of a metric per packet or per flow; what exists is read when it is asked for. A piece is
one family, or one service's part of one: none takes more than a few milliseconds.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest

from hasyncd.balance.services import Services
from hasyncd.config import Settings
from hasyncd.core.types import Role, SyncState
from hasyncd.runtime import metric_names as names
from hasyncd.runtime.event_names import EVENTS
from hasyncd.runtime.loop_lag import LoopLag
from hasyncd.runtime.metric_counters import CACHE_MISSES, COUNTERS, DROP_REASONS
from hasyncd.runtime.metric_names import Family
from hasyncd.runtime.role_reasons import TO_PRIMARY
from hasyncd.runtime.shell import Shell
from hasyncd.runtime.status import StatusReport

Value = tuple[tuple[str, ...], float]
"""Labels' values, and what the series is."""

_PEER_STATES = ("connected", "lost", "never")
_PORT_REFUSALS = {
    "connections_refused": "connections",
    "datagrams_refused": "datagrams",
    "datagrams_routed": "routed",
    "streams_refused": "streams",
    "connections_silent": "silent",
    "handshakes_unfinished": "handshakes",
    "refused_by_peer": "by_peer",
}
_SEND_ERROR, _REJECTED = "heartbeat_send_", "rejected_"


class Exposition:
    """Renders all metrics of a node; `text` is what a scrape gets."""

    def __init__(
        self, settings: Settings, shell: Shell, report: StatusReport, services: Services, loop_lag: LoopLag
    ) -> None:
        self._shell, self._report, self._services, self._loop_lag = shell, report, services, loop_lag
        self._engine, self._journal = shell.engine, shell.journal
        self._capacity = settings.node.capacity
        self._process = ProcessCollector(registry=None)

    async def text(self) -> bytes:
        """Everything, in the text format 0.0.4. The event loop turns between the pieces."""
        told: set[str] = set()
        lines: list[bytes] = []
        async for metric in self._metrics():
            piece = generate_latest(_One(metric))
            if metric.name in told:  # another piece of a family: its HELP and TYPE stand there already
                piece = b"".join(line for line in piece.splitlines(True) if not line.startswith(b"#"))
            told.add(metric.name)
            lines.append(piece)
        return b"".join(lines)

    async def _metrics(self) -> AsyncIterator[Metric]:
        status = self._report.build(self._shell.port_counters, services=False)
        sections = (
            self._node(status), self._peer(status["peer"]), self._sync(status["sync"]), self._forwarding(status),
            self._engine_counters(), self._loop(), self._process.collect(),
        )  # fmt: skip
        for section in sections:
            for metric in section:
                yield metric
                await asyncio.sleep(0)
        async for metric in self._service_metrics():
            yield metric
            await asyncio.sleep(0)

    # --- the pair ---------------------------------------------------------------------------------

    def _node(self, status: Mapping[str, Any]) -> Iterator[Metric]:
        yield _info(names.NODE, status["node"], status["engine"], status["version"])
        yield _states(names.ROLE, [role.value for role in Role], status["role"])
        yield _gauge(names.GENERATION, status["generation"])
        yield _gauge(names.SOLO, status["solo"])
        yield _gauge(names.OWNER, all(vip["owned"] for vip in status["vips"]))
        yield _gauge(names.FITNESS, status["fitness"])
        yield _gauges(
            names.TRACK,
            [((track["name"], track["kind"]), track["state"] == "good") for track in status["tracks"]],
        )
        yield _gauge(names.CHANGED, self._journal.role_changed_s)
        # What can happen is there with 0 before it does: a counter that is born with 1 has not increased to Prometheus.
        possible = Counter({("primary", word): 0 for word in TO_PRIMARY})
        possible.update(self._journal.role_changes)
        yield _counters(names.ROLE_CHANGES, possible.items())
        certificate = status["certificate"] or {}
        yield _gauge(names.TAKEOVER_COMPLETE, certificate.get("complete"))
        yield _gauge(names.TAKEOVER_MISSING, certificate.get("flows_missing"))
        counts = dict.fromkeys(EVENTS, 0) | self._journal.counts
        yield _counters(names.EVENTS, (((name,), count) for name, count in counts.items()))
        yield _gauge(names.WITNESS, (status["witness"] or {}).get("reachable"))

    def _peer(self, peer: Mapping[str, Any]) -> Iterator[Metric]:
        yield _states(names.PEER_STATE, _PEER_STATES, peer["state"])
        yield _gauge(names.PEER_HEARD, _seconds(peer["last_heard_ms"]))
        yield _gauge(names.PEER_FITNESS, peer["fitness"])
        yield _gauge(names.PEER_FLOWS, peer["flows"])
        yield _gauge(names.PEER_CONFIG, peer["config_matches"])
        paths = peer["paths"]
        yield _gauges(names.PATH_UP, [((path["name"],), path["up"]) for path in paths])
        yield _gauges(
            names.PATH_HEARD, [((path["name"],), _seconds(path["last_heard_ms"])) for path in paths]
        )
        beats = self._shell.heartbeats
        yield _counters(names.HEARTBEATS_SENT, (((name,), sent) for name, sent, _ in beats))
        yield _counters(names.HEARTBEATS_RECEIVED, (((name,), received) for name, _, received in beats))
        counters = self._shell.port_counters
        yield _counters(
            names.HEARTBEAT_ERRORS,
            (
                ((name.removeprefix(_SEND_ERROR),), count)
                for name, count in counters.items()
                if name.startswith(_SEND_ERROR)
            ),
        )
        yield _counters(
            names.PEER_PORT_REFUSED,
            (((word,), counters.get(name, 0)) for name, word in _PORT_REFUSALS.items()),
        )

    def _sync(self, sync: Mapping[str, Any]) -> Iterator[Metric]:
        yield _states(names.SYNC_STATE, [state.value for state in SyncState], sync["state"])
        yield _gauge(names.AT_RISK, sync["at_risk_flows"])
        yield _gauge(names.AT_RISK_AGE, _seconds(sync["at_risk_oldest_ms"]))
        yield _gauge(names.LAG, sync["lag_records"])
        yield _gauge(names.HEAD, sync["head"])
        yield _gauge(names.INSTALLED, sync["installed"])
        yield _gauge(names.DIGEST, sync["digest_match"])
        yield _gauge(names.COMMIT_HELD, sync["commit_held"])
        yield _counters(names.FULL_SYNCS, [((), sync["full_syncs"])])
        yield _counters(names.LEAST_SYNCS, [((), sync["least_syncs"])])

    # --- what is forwarded ------------------------------------------------------------------------

    def _forwarding(self, status: Mapping[str, Any]) -> Iterator[Metric]:
        flows = status["flows"]
        yield _gauges(names.FLOWS, [((proto,), flows[proto]) for proto in ("tcp", "udp", "icmp", "other")])
        yield _gauge(names.CAPACITY, self._capacity)
        vips = [((vip["address"], vip["interface"]), vip) for vip in status["vips"]]
        yield _gauges(names.VIP_OWNED, [(labels, vip["owned"]) for labels, vip in vips])
        yield _gauges(names.VIP_VERIFIED, [(labels, vip["verified"]) for labels, vip in vips])
        claimed = [(labels, vip["claimed_by"] is not None if vip["owned"] else None) for labels, vip in vips]
        yield _gauges(names.VIP_CLAIMED, claimed)
        # As in the status: the engine's records, the core's frames and the sockets' datagrams are refused by one list.
        yield _counters(
            names.REJECTIONS,
            (
                ((name.removeprefix(_REJECTED),), count)
                for name, count in status["counters"].items()
                if name.startswith(_REJECTED)
            ),
        )

    def _engine_counters(self) -> Iterator[Metric]:
        counters = self._engine.counters()
        for name, family in COUNTERS.items():
            make = _counters if family.kind == "counter" else _gauges
            yield make(family, [((), counters[name])])
        yield _counters(names.DROPS, (((reason,), counters[f"drop_{reason}"]) for reason in DROP_REASONS))
        misses = (((reason,), counters[f"cache_miss_{reason}"]) for reason in CACHE_MISSES)
        yield _counters(names.CACHE_MISSES, misses)

    async def _service_metrics(self) -> AsyncIterator[Metric]:
        views = self._services.views()
        yield _gauges(names.RING, [((view.name,), view.ring_generation) for view in views])
        counts = {}
        for view in views:
            counts[view.name] = self._engine.backend_flow_counts(view.index)
            await asyncio.sleep(0)
        yield _gauges(names.SERVICE_FLOWS, [((name,), sum(flows.values())) for name, flows in counts.items()])
        # A family stands in one place of the text, whatever its size: so the services are gone through for each.
        for view in views:
            yield _gauges(
                names.BACKEND_UP, [((view.name, str(b.id)), b.state == "up") for b in view.backends]
            )
        for view in views:
            labels = [(view.name, str(b.id), b.address, b.state) for b in view.backends]
            yield _gauges(names.BACKEND_INFO, [(values, 1) for values in labels])
        for view in views:
            flows = counts[view.name]
            yield _gauges(
                names.BACKEND_FLOWS, [((view.name, str(b.id)), flows.get(b.id, 0)) for b in view.backends]
            )
        for view in views:
            yield _gauges(names.BACKEND_WEIGHT, [((view.name, str(b.id)), b.weight) for b in view.backends])

    def _loop(self) -> Iterator[Metric]:
        lag = self._loop_lag
        yield HistogramMetricFamily(
            names.LOOP_LAG.name, names.LOOP_LAG.meaning, buckets=lag.buckets(), sum_value=lag.sum_s
        )
        yield _gauge(names.LOOP_LAG_MAX, lag.max_s)


class _One(CollectorRegistry):
    """A registry of one metric, for the library's writer."""

    def __init__(self, metric: Metric) -> None:
        super().__init__(auto_describe=False)
        self._metric = metric

    def collect(self) -> Iterator[Metric]:
        yield self._metric


def _gauge(family: Family, value: float | None) -> Metric:
    return _gauges(family, [((), value)])


def _gauges(family: Family, values: Iterable[tuple[tuple[str, ...], float | None]]) -> Metric:
    """What is not known has no series."""
    metric = GaugeMetricFamily(family.name, family.meaning, labels=family.labels)
    for labels, value in values:
        if value is not None:
            metric.add_metric(labels, float(value))
    return metric


def _states(family: Family, known: Iterable[str], current: str) -> Metric:
    return _gauges(family, [((state,), state == current) for state in known])


def _counters(family: Family, values: Iterable[Value]) -> Metric:
    metric = CounterMetricFamily(family.name, family.meaning, labels=family.labels)
    for labels, value in values:
        metric.add_metric(labels, float(value))
    return metric


def _info(family: Family, *values: str) -> Metric:
    metric = InfoMetricFamily(family.name.removesuffix("_info"), family.meaning)
    metric.add_metric((), dict(zip(family.labels, values, strict=True)))
    return metric


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
