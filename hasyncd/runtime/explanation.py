"""What `explain` answers: which flow, service, backend or public port somebody has, or would get, and why.

The engine asks the code that judges packets (native/core/explain.h), so this is what the next such packet meets.
"""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from hasyncd.addresses import Address, for_engine, text_of
from hasyncd.config import Settings
from hasyncd.config_values import Endpoint
from hasyncd.datapath.packet import Engine
from hasyncd.runtime.clock import now_ns
from hasyncd.runtime.control_server import EXIT_USAGE, Conclusion
from hasyncd.runtime.flow_listing import PROTOCOLS, SIMPLE_STATES, TCP_STATES
from hasyncd.runtime.metric_counters import DROP_REASONS

SIDES: Final = {0: "inside", 1: "outside"}
BACKEND_STATES: Final = ("up", "draining", "down", "removed", "foreign")

Raw = dict[str, Any]
"""A part of what `Engine.explain` gives."""


async def explain(
    settings: Settings, engine: Engine, request: Mapping[str, Any]
) -> AsyncIterator[dict[str, Any]]:
    """One object. Raises Conclusion where the request makes no sense."""
    proto, src, sport, dst, dport = _read(request)
    try:
        raw = engine.explain(proto, for_engine(src), sport, for_engine(dst), dport, now_ns())
    except ValueError as error:
        raise Conclusion(str(error), EXIT_USAGE) from None
    decision, flow = raw["decision"], raw["flow"]
    reply = _ends("reply_", decision["reply"])
    yield {
        "proto": PROTOCOLS[proto],
        "src": str(src),
        "sport": sport,
        "dst": str(dst),
        "dport": dport,
        "side": SIDES.get(raw["side"]),
        "forwards": raw["armed"],
        "verdict": _verdict(decision, flow),
        "dropped": _dropped(decision, flow),
        "because": DROP_REASONS.get(_dropped(decision, flow) or ""),
        "sender_told": decision["told"],
        "flow": None if flow is None else _flow(settings, proto, flow),
        "service": None if raw["choice"] is None else _service(settings, raw["choice"]),
        "nat": _nat(settings, decision, flow),
        "fresh": reply,
        "fresh_differs": None if flow is None else reply != _ends("reply_", flow["reply"]),
    }


def _verdict(decision: Raw, flow: Raw | None) -> str:
    if flow is not None:
        return "drop" if flow["given_up"] else "flow"
    if decision["answered"]:
        return "answered"
    return "new_flow" if decision["passes"] else "drop"


def _dropped(decision: Raw, flow: Raw | None) -> str | None:
    """Of a live flow: its next packet. Else of a first packet."""
    if flow is not None:
        return "backend_removed" if flow["given_up"] else None
    return None if decision["dropped"] is None else str(decision["dropped"]).removeprefix("drop_")


def _ends(prefix: str, ends: tuple[Any, ...] | None) -> dict[str, Any] | None:
    if ends is None:
        return None
    src, sport, dst, dport = ends
    names = (f"{prefix}src", f"{prefix}sport", f"{prefix}dst", f"{prefix}dport")
    return dict(zip(names, (text_of(src), sport, text_of(dst), dport), strict=True))


def _backend(raw: Raw | None) -> dict[str, Any] | None:
    if raw is None:
        return None
    address = str(Endpoint(ipaddress.ip_address(raw["address"]), raw["port"]))
    return {
        "id": raw["id"],
        "address": address,
        "weight": raw["weight"],
        "state": BACKEND_STATES[raw["state"]],
        "flows": raw["flows"],
    }


def _flow(settings: Settings, proto: int, raw: Raw) -> dict[str, Any]:
    ends = (_ends("", raw["original"]) or {}) | (_ends("reply_", raw["reply"]) or {})
    states = TCP_STATES if proto == 6 else SIMPLE_STATES
    return {
        **ends,
        "is_reply": raw["is_reply"],
        "state": states[raw["state"]],
        "timeout_s": raw["left_ms"] // 1000,
        "service": settings.service[raw["service"]].name if raw["service"] >= 0 else None,
        "backend": _backend(raw["backend"]),
        "rule": raw["nat_rule"] if raw["nat_rule"] >= 0 else None,
        "syn_begins_anew": raw["begins_anew"] if proto == 6 else None,
    }


def _service(settings: Settings, raw: Raw) -> dict[str, Any]:
    service = settings.service[raw["service"]]
    on_ring = service.algorithm == "consistent-hash"
    hashes = raw["owner"] is not None
    return {
        "name": service.name,
        "algorithm": service.algorithm,
        "key": service.key,
        "key_hash": f"{raw['key']:08x}",
        "ring_generation": raw["generation"],
        "digest": f"{raw['digest']:016x}",
        "point": f"{raw['point']:08x}" if on_ring and hashes else None,
        "slot": raw["place"] if hashes else None,
        "slots": raw["places"] if hashes else None,
        "owner": _backend(raw["owner"]),
        "backend": _backend(raw["backend"]),
        "under_way": _backend(raw["before"]),
    }


def _nat(settings: Settings, decision: Raw, flow: Raw | None) -> dict[str, Any] | None:
    """What gives the source or the destination another address, other than a service."""
    mapped = decision["forward"] if decision["forward"] >= 0 else decision["own"]
    if mapped >= len(settings.forward):
        place = mapped - len(settings.forward)
        return {"kind": "one_to_one", "rule": place, "public": str(settings.one_to_one[place].public)}
    if mapped >= 0:
        return {"kind": "forward", "rule": mapped, "public": str(settings.forward[mapped].public)}
    if decision["pass"] is not None:
        return {"kind": "pass", "rule": decision["pass"], "public": None}
    if decision["exempt"]:
        return {"kind": "exempt", "rule": decision["nat_rule"], "public": None}
    if decision["preference"] is None:
        return None
    got = flow["reply"] if flow is not None else decision["reply"]
    place = 1 if decision["preference"][3] == 0 else 3  # an echo's identifier stands first
    return {
        "kind": "nat",
        "rule": decision["nat_rule"],
        "public": None if got is None else f"{text_of(got[2])}:{got[place]}",
        "preferred": f"{text_of(decision['preference'][2])}:{decision['preference'][place]}",
    }


# --- the request --------------------------------------------------------------------------------------------


def _read(request: Mapping[str, Any]) -> tuple[int, Address, int, Address, int]:
    """The socket is open to whoever may open it: nothing is taken for granted."""
    src, dst = _address(request, "src"), _address(request, "dst")
    if src.version != dst.version:
        raise Conclusion("src and dst are of one family", EXIT_USAGE)
    echo = 1 if src.version == 4 else 58
    known = {"tcp": 6, "udp": 17, "icmp": echo, PROTOCOLS[echo]: echo}
    name = request.get("proto")
    if not isinstance(name, str) or name not in known:
        raise Conclusion(f"proto: tcp, udp or icmp, not {name!r:.80}", EXIT_USAGE)
    sport, dport = _port(request, "sport"), _port(request, "dport")
    return known[name], src, sport, dst, 0 if known[name] == echo else dport


def _address(request: Mapping[str, Any], key: str) -> Address:
    value = request.get(key)
    try:
        if not isinstance(value, str):
            raise ValueError
        return ipaddress.ip_address(value)
    except ValueError:
        raise Conclusion(f"{key}: {value!r:.80} is no address", EXIT_USAGE) from None


def _port(request: Mapping[str, Any], key: str) -> int:
    value = request.get(key)
    if type(value) is not int or not 0 <= value <= 65535:
        raise Conclusion(f"{key}: a port, 0 to 65535", EXIT_USAGE)
    return value
