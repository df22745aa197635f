"""The `status` object: DESIGN's fixed keys, filled from core, engine and services."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from hasyncd import __version__
from hasyncd.balance.services import Services
from hasyncd.config import Settings
from hasyncd.core.node import Node
from hasyncd.core.types import LastSync, MergeReport, NodeView, Role, SyncState, VipView
from hasyncd.datapath.packet import Engine
from hasyncd.runtime.clock import now_ns
from hasyncd.runtime.packet_flow import PacketFlow
from hasyncd.runtime.route_driver import RouteDriver


def _counter_name(of_port: str) -> str:
    """A rejection is called as in proto/sync.md §9, wherever it was made."""
    return of_port if of_port.startswith("rejected_") else f"peer_{of_port}"


def _verdict(owned: bool, vip: VipView | None) -> dict[str, Any]:
    """What is known of a VIP that is owned; nothing is of one that is not."""
    verified_ms = vip.verified_ms if owned and vip else None
    return {
        "verified": verified_ms is not None if owned else None,
        "verified_ms": verified_ms,
        "claimed_by": vip.claimant if owned and vip else None,
    }


def _age_ms(at_ns: int | None, now: int) -> int | None:
    return None if at_ns is None else max(0, now - at_ns) // 1_000_000


def _names(values: Iterable[object]) -> str:
    return ", ".join(str(value) for value in values)


def _merge(merge: MergeReport | None) -> dict[str, int | None] | None:
    """What followed the last split; the loser knows only what it offered."""
    if merge is None:
        return None
    found = merge.found
    return {
        "offered": merge.offered,
        "known": found.known if found else None,
        "merged": found.merged if found else None,
        "collided": found.collided if found else None,
        "refused": found.refused if found else None,
        "closed": found.closed if found else None,
    }


def _last_sync(last: LastSync | None) -> dict[str, Any] | None:
    if last is None:
        return None
    fields = dataclasses.asdict(last)
    duration_ns = fields.pop("duration_ns")
    return {**fields, "duration_ms": None if duration_ns is None else duration_ns // 1_000_000}


class StatusReport:
    """Reads everything that `status` shows; `sample` once a second gives it rates."""

    def __init__(
        self,
        settings: Settings,
        node: Node,
        engine: Engine,
        services: Services,
        routes: RouteDriver | None = None,
        packets: PacketFlow | None = None,
    ) -> None:
        self._settings, self._node, self._engine, self._services = settings, node, engine, services
        self._routes, self._packets = routes, packets
        self._previous: tuple[int, dict[str, int]] | None = None
        self._rates: dict[str, float | None] = dict.fromkeys(
            ("packets_per_s", "bytes_per_s", "new_flows_per_s")
        )

    def sample(self) -> None:
        """Takes the difference to the last sample."""
        moment, counters = now_ns(), self._engine.counters()
        if self._previous is not None:
            before, old = self._previous
            seconds = max(moment - before, 1) / 1e9
            self._rates = {
                "packets_per_s": (counters["sent_packets"] - old["sent_packets"]) / seconds,
                "bytes_per_s": (counters["sent_bytes"] - old["sent_bytes"]) / seconds,
                "new_flows_per_s": (counters["flows_created"] - old["flows_created"]) / seconds,
            }
        self._previous = moment, counters

    def build(self, port_counters: Mapping[str, int], *, services: bool = True) -> dict[str, Any]:
        """One status; `port_counters` are those of the peer's sockets. Without `services`, which may be many, where
        they are asked for one at a time."""
        moment = now_ns()
        view = self._node.view(moment)
        counters = self._engine.counters()
        owned = view.role is Role.PRIMARY and view.armed and moment < view.lease_until_ns
        known = {vip.address: vip for vip in view.vips}
        total, tcp, udp, icmp = self._engine.flow_counts()
        return {
            "node": self._settings.node.name,
            "role": view.role.value,
            "generation": view.generation,
            "engine": self._packets.engine if self._packets else "packet",
            "engine_reason": self._packets.reason if self._packets else None,
            "version": __version__,
            "converged": self._converged(known) if view.role is Role.PRIMARY else None,
            "solo": view.solo,
            "last_change": view.last_change_reason,
            "certificate": dataclasses.asdict(view.certificate) if view.certificate else None,
            "fitness": view.fitness,
            "tracks": [
                {
                    "name": track.name,
                    "kind": track.kind,
                    "weight": track.weight,
                    "state": "good" if track.good else "failed",
                    "reason": track.why or None,
                }
                for track in view.tracks
            ],
            "peer": self._peer(view, moment),
            "witness": self._witness(view),
            "sync": self._sync(view, counters, total),
            "flows": {"total": total, "tcp": tcp, "udp": udp, "icmp": icmp, "other": 0},
            "vips": [
                {
                    "address": str(vip.address),
                    "interface": vip.interface,
                    "owned": owned,
                    **_verdict(owned, known.get(str(vip.address.ip))),
                }
                for vip in self._settings.vip
            ],
            "routes": self._routes.view() if self._routes else None,
            "services": self._service_views() if services else [],
            "rules": self._rule_views(),
            "rates": self._rates,
            "insecure": self._settings.peer.insecure,
            "counters": {
                **counters,
                **{f"rejected_{name}": count for name, count in view.rejections.items()},
                **{_counter_name(name): count for name, count in port_counters.items()},
            },
        }

    def _converged(self, known: dict[str, VipView]) -> bool:
        """Observed, not assumed (proto/pair.md §4d)."""
        verified = [known.get(str(vip.address.ip)) for vip in self._settings.vip]
        seen = all(vip is not None and vip.verified_ms is not None for vip in verified)
        return seen and (self._routes is None or self._routes.converged)

    def _peer(self, view: NodeView, moment: int) -> dict[str, Any]:
        return {
            "state": view.peer.state,
            "last_heard_ms": _age_ms(view.peer.last_heard_ns, moment),
            "node": view.peer.node,
            "role": view.peer.role.value if view.peer.role else None,
            "generation": view.peer.generation,
            "flows": view.peer.flows,
            "ready": view.peer.ready,
            "protocol": view.peer.protocol,
            "fitness": view.peer.fitness,
            "config_matches": view.peer.config_matches,
            "tables_match": view.peer.tables_match,
            "at_risk_flows": view.peer.at_risk,
            "at_risk_oldest_ms": view.peer.at_risk_oldest_ms,
            "secured": self._settings.peer.keys is not None,
            "key_log": None if self._settings.peer.key_log is None else str(self._settings.peer.key_log),
            "paths": [
                {"name": path.name, "up": path.up, "last_heard_ms": _age_ms(path.last_heard_ns, moment)}
                for path in view.peer.paths
            ],
        }

    def _witness(self, view: NodeView) -> dict[str, Any] | None:
        """What the register says is null where nobody has written, or the witness is lost."""
        if view.witness is None or self._settings.peer.witness is None:
            return None
        return {
            "kind": self._settings.peer.witness.kind,
            "key": self._settings.witness_key,
            **dataclasses.asdict(view.witness),
        }

    def _sync(self, view: NodeView, counters: dict[str, int], total: int) -> dict[str, Any]:
        at_risk, oldest_ns = self._engine.count_at_risk()
        in_step = view.sync.state is SyncState.READY or view.sync.reason == "config_skew"
        if view.role is Role.PRIMARY and not in_step:
            at_risk = total  # proto/sync.md §5: while no peer is synced, every flow is at risk
        primary = view.role is Role.PRIMARY
        return {
            "commit": self._settings.sync.commit,
            "commit_held": view.commit_held,
            "commit_suspended": bool(counters["commit_suspended_now"]),
            "state": view.sync.state.value,
            "reason": view.sync.reason,
            "protocol": view.sync.protocol,
            "features": view.sync.features,
            "lag_flows": at_risk if primary else None,
            "lag_ms": oldest_ns // 1_000_000 if primary else None,
            "lag_records": max(0, view.sync.head - view.sync.acked) if primary else None,
            "at_risk_flows": at_risk if primary else None,
            "at_risk_oldest_ms": oldest_ns // 1_000_000 if primary else None,
            "fail_open_released": counters["fail_open_released"],
            "digest_match": view.sync.digest_match,
            "full_syncs": view.sync.full_syncs,
            "least_syncs": view.sync.least_syncs,
            "merge": _merge(view.sync.merge),
            "last": _last_sync(view.sync.last),
            "head": view.sync.head,
            "acked": view.sync.acked,
            "installed": view.sync.installed,
        }

    def _rule_views(self) -> list[dict[str, Any]]:
        """The rules beside the services, in order of configuration, and what their flows wait for."""
        settings = self._settings
        tables: dict[str, list[tuple[str | None, object, object]]] = {
            "nat": [(rule.commit, _names(rule.source), _names(rule.public)) for rule in settings.nat],
            "forward": [
                (rule.commit, f"{rule.public}/{rule.protocol}", rule.to) for rule in settings.forward
            ],
            "one_to_one": [(rule.commit, rule.public, rule.inside) for rule in settings.one_to_one],
            "pass": [(rule.commit, _names(rule.source), "") for rule in settings.passes],
        }
        return [
            {
                "table": table,
                "from": str(here),
                "to": str(there) or None,
                "commit": commit or settings.sync.commit,
            }
            for table, rules in tables.items()
            for commit, here, there in rules
        ]

    def _service_views(self) -> list[dict[str, Any]]:
        views = []
        for service in self._services.views(now_ns()):
            flows = self._engine.backend_flow_counts(service.index)
            views.append(
                {
                    "name": service.name,
                    "vip": service.vip,
                    "algorithm": service.algorithm,
                    "ring_generation": service.ring_generation,
                    "follows": service.follows,
                    "panics": service.panics,
                    "commit": self._settings.service[service.index].commit or self._settings.sync.commit,
                    "backends": [
                        {
                            "id": backend.id,
                            "address": backend.address,
                            "weight": backend.weight,
                            "weight_effective": backend.weight_effective,
                            "state": backend.state,
                            "why": backend.why or None,
                            "drain_left_ms": backend.drain_left_ms,
                            "flows": flows.get(backend.id, 0),
                        }
                        for backend in service.backends
                    ],
                }
            )
        return views
