"""What `flows` answers: the table in bites, filtered and written as JSON before the event loop turns again.

A flow that lives through the listing is listed once, others may be. A bite costs the packet thread the time to copy 256
flows; what does not match costs no text. Lines leave a bite at a time, so that a reader of a million flows is the only
one who needs room for them.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Final

from hasyncd.addresses import text_of
from hasyncd.config import Settings
from hasyncd.datapath.packet import Engine
from hasyncd.runtime.clock import now_ns
from hasyncd.runtime.control_server import EXIT_USAGE, Conclusion

FLOWS_PER_BITE: Final = 256
PROTOCOLS: Final = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}
# proto/sync.md §3.1
TCP_STATES: Final = (
    "NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT",
    "CLOSE", "SYN_SENT2",
)  # fmt: skip
SIMPLE_STATES: Final = ("NONE", "UNREPLIED", "REPLIED")

# Places in a flow as `Engine.list_flows` gives it.
_PROTO, _STATE, _SERVICE, _BACKEND, _AT_RISK = 0, 9, 11, 12, 14
_ADDRESSES: Final = {"src": 1, "dst": 3, "reply_src": 5, "reply_dst": 7}
_PORTS: Final = {"sport": 2, "dport": 4, "reply_sport": 6, "reply_dport": 8}
_KEYS: Final = {"verb", "count", "proto", "state", "service", "backend", "at_risk", *_ADDRESSES, *_PORTS}

Flow = tuple[Any, ...]
Test = Callable[[Flow], bool]


async def flows(
    settings: Settings, engine: Engine, request: Mapping[str, Any]
) -> AsyncIterator[dict[str, Any] | bytes]:
    """Lines of flows that match every filter of the request, or with `count` how many do. Raises Conclusion where the
    request is no good."""
    tests = list(_tests(settings, request))
    names = [json.dumps(service.name) for service in settings.service]
    counts, counted, cursor = request.get("count") is True, 0, 0
    while cursor >= 0:
        cursor, bite = engine.list_flows(cursor, FLOWS_PER_BITE, now_ns())
        for test in tests:
            bite = [flow for flow in bite if test(flow)]
        counted += len(bite)
        if bite and not counts:
            yield "".join([_line(names, flow) for flow in bite]).encode()
        else:
            await asyncio.sleep(0)  # what is written lets the loop turn; what is passed over must, too
    if counts:
        yield {"count": counted}


def _line(names: list[str], flow: Flow) -> str:
    """One flow as a line of JSON: DESIGN §7's keys. Written by hand, it costs a third of what json.dumps does."""
    (proto, src, sport, dst, dport, reply_src, reply_sport, reply_dst, reply_dport, state, timeout_s,
     service, backend, rule, at_risk) = flow  # fmt: skip
    belongs = f'{names[service]},"backend":{backend}' if service >= 0 else 'null,"backend":null'
    return (
        f'{{"proto":"{PROTOCOLS.get(proto, proto)}",'
        f'"src":"{_text(src)}","sport":{sport},"dst":"{_text(dst)}","dport":{dport},'
        f'"reply_src":"{_text(reply_src)}","reply_sport":{reply_sport},'
        f'"reply_dst":"{_text(reply_dst)}","reply_dport":{reply_dport},'
        f'"state":"{(TCP_STATES if proto == 6 else SIMPLE_STATES)[state]}","timeout_s":{timeout_s},'
        f'"service":{belongs},"rule":{rule if rule >= 0 else "null"},"at_risk":{"true" if at_risk else "false"}}}\n'
    )


def _text(address: int | bytes) -> str:
    return socket.inet_ntoa(address.to_bytes(4, "big")) if isinstance(address, int) else text_of(address)


# --- filters ----------------------------------------------------------------------------------------------


def _tests(settings: Settings, request: Mapping[str, Any]) -> Iterator[Test]:
    """One for each filter, the cheapest and sharpest first."""
    for key in request:
        if key not in _KEYS:
            raise _bad(f"{key}: no such filter")
    for key, place in _PORTS.items():
        if (port := _number(request, key, 65535)) is not None:
            yield _equals(place, port)
    if (proto := _choice(request, "proto", PROTOCOLS.values())) is not None:
        yield _equals(_PROTO, next(number for number, name in PROTOCOLS.items() if name == proto))
    if request.get("at_risk") is True:
        yield lambda flow: bool(flow[_AT_RISK])
    if (service := _choice(request, "service", [each.name for each in settings.service])) is not None:
        yield _equals(_SERVICE, [each.name for each in settings.service].index(service))
    if (backend := _number(request, "backend", 2**32 - 1)) is not None:
        yield lambda flow: bool(flow[_BACKEND] == backend and flow[_SERVICE] >= 0)
    for key, place in _ADDRESSES.items():
        if request.get(key) is not None:
            yield _within(place, _network(request, key))
    if (state := _choice(request, "state", dict.fromkeys((*TCP_STATES, *SIMPLE_STATES)))) is not None:
        yield _in_state(state)


def _equals(place: int, wanted: int) -> Test:
    return lambda flow: bool(flow[place] == wanted)


def _in_state(name: str) -> Test:
    tcp = TCP_STATES.index(name) if name in TCP_STATES else -1
    simple = SIMPLE_STATES.index(name) if name in SIMPLE_STATES else -1
    return lambda flow: bool(flow[_STATE] == (tcp if flow[_PROTO] == 6 else simple))


def _within(place: int, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> Test:
    base, mask = int(network.network_address), int(network.netmask)
    if network.version == 4:
        return lambda flow: isinstance(flow[place], int) and flow[place] & mask == base
    return lambda flow: isinstance(flow[place], bytes) and int.from_bytes(flow[place], "big") & mask == base


def _number(request: Mapping[str, Any], key: str, most: int) -> int | None:
    value = request.get(key)
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= most:
        raise _bad(f"{key}: a number from 0 to {most:,}")
    return value


def _choice(request: Mapping[str, Any], key: str, known: Any) -> str | None:
    value = request.get(key)
    if value is None:
        return None
    for name in known:
        if isinstance(value, str) and name.casefold() == value.casefold():
            return str(name)
    raise _bad(f"{key}: there is no {value!r:.80}; there is {', '.join(known) or 'none'}")


def _network(request: Mapping[str, Any], key: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    value = request[key]
    try:
        if not isinstance(value, str):
            raise ValueError
        return ipaddress.ip_network(value)
    except ValueError:
        raise _bad(f"{key}: {value!r:.80} is no address or network such as 10.0.1.0/24") from None


def _bad(message: str) -> Conclusion:
    return Conclusion(message, EXIT_USAGE)
