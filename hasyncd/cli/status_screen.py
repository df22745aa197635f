"""How the status of a node looks to a person.

Nothing is told by colour alone: every judgement is a word and a sign, coloured in blue and yellow, which
colour-blind eyes keep apart. What the daemon does not know (null) is a dash.
"""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

GOOD, WARN, ALARM, QUIET = "bold bright_blue", "bold yellow", "bold red", "dim"


def screen(status: dict[str, Any]) -> RenderableType:
    """The whole screen for one `status` object."""
    parts: list[RenderableType] = [_headline(status), _verdict(status)]
    incomplete = _incomplete(status)
    parts += [*([incomplete] if incomplete else []), Text(""), _facts(status)]
    if status.get("vips"):
        parts += [Text(""), _vips(status["vips"])]
    if status.get("services"):
        parts += [Text(""), _services(status["services"])]
    return Group(*parts)


def number(value: object) -> str:
    """`1,048,576`; a dash for what is not known."""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else "–"


def _judged(good: bool | None, word: str) -> Text:
    if good is None:
        return Text(word)
    return Text(f"{'✔' if good else '!'} {word}", style=GOOD if good else WARN)


def _word(value: object) -> str:
    return "–" if value is None else str(value)


def _headline(status: dict[str, Any]) -> Text:
    role = _word(status.get("role"))
    return Text.assemble(
        (_word(status.get("node")), "bold"),
        "  ",
        _judged(role in ("primary", "backup"), role),
        (f"  generation {number(status.get('generation'))}", ""),
        (f"  engine {_word(status.get('engine'))}  version {_word(status.get('version'))}", QUIET),
    )


def _verdict(status: dict[str, Any]) -> Text:
    """The sentence for which the rest is the proof."""
    role, sync = status.get("role"), status.get("sync") or {}
    total = (status.get("flows") or {}).get("total")
    skewed = sync.get("reason") == "config_skew"
    ready = sync.get("state") == "ready" or skewed
    at_risk = sync.get("at_risk_flows")
    if skewed and (role == "backup" or at_risk is not None):
        return _judged(False, "the peer has every flow, and another configuration: it would not go on alike")
    if role == "primary" and ready and at_risk is not None:
        return _judged(at_risk == 0, f"if this node died now, {number(at_risk)} flows would be lost")
    if role == "primary":
        return _judged(
            False, f"if this node died now, its {number(total)} flows would be lost: no backup in step"
        )
    if role == "backup" and ready:
        return _judged(True, f"could take over now, with {number(total)} flows")
    if role == "backup":
        return _judged(False, "could not take over without loss: the copy is not complete")
    return _judged(False, "forwards nothing in this role")


def _incomplete(status: dict[str, Any]) -> Text | None:
    """What stays true until the next takeover: flows were lost, or may have been."""
    certificate = status.get("certificate") or {}
    if status.get("role") != "primary" or certificate.get("complete") is not False:
        return None
    missing = certificate.get("flows_missing")
    how_many = "nobody knows how many" if missing is None else f"at most {number(missing)}"
    return Text(f"! TOOK OVER INCOMPLETE: {how_many} flows of the former primary were missing", style=ALARM)


def _facts(status: dict[str, Any]) -> Table:
    peer, sync, flows = status.get("peer") or {}, status.get("sync") or {}, status.get("flows") or {}
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column()
    state, heard = peer.get("state"), peer.get("last_heard_ms")
    paths = " ".join(
        f"{path.get('name')} {'up' if path.get('up') else 'down'}" for path in peer.get("paths") or []
    )
    table.add_row(
        "peer",
        Text.assemble(
            _judged(state == "connected", _word(state)),
            f"  heard {number(heard)} ms ago" if heard is not None else "",
            f"  {paths}" if paths else "",
            f"  {number(peer['at_risk_flows'])} flows at risk there"
            if peer.get("at_risk_flows") is not None
            else "",
            ("  ! INSECURE: neither authenticated nor encrypted", ALARM) if status.get("insecure") else "",
            (f"  ! KEY LOG: {peer['key_log']} opens the stream", ALARM) if peer.get("key_log") else "",
        ),
    )
    table.add_row("fitness", _fitness(status))
    sync_state = sync.get("state")
    table.add_row(
        "sync",
        Text.assemble(
            _judged(sync_state == "ready", _word(sync_state)),
            (f"  ! {sync['reason']}", WARN) if sync.get("reason") else "",
            f"  commit {_word(sync.get('commit'))}",
            ("  ! suspended: the peer is slow, new flows do not wait", WARN)
            if sync.get("commit_suspended")
            else "",
            f"  lag {number(sync.get('lag_flows'))} flows, {number(sync.get('lag_ms'))} ms",
            f"  full syncs {number(sync.get('full_syncs'))}",
        ),
    )
    match, released = sync.get("digest_match"), sync.get("fail_open_released")
    digest = "not compared yet" if match is None else "alike" if match else "DIFFERENT"
    table.add_row("tables", Text.assemble(_judged(match, digest), _last_sync(sync.get("last") or {})))
    table.add_row(
        "at risk",
        Text.assemble(
            f"{number(sync.get('at_risk_flows'))} flows",
            f", oldest {number(sync.get('at_risk_oldest_ms'))} ms" if sync.get("at_risk_flows") else "",
            "  ",
            _judged(None if released is None else released == 0, f"released unconfirmed {number(released)}"),
        ),
    )
    kinds = ("tcp", "udp", "icmp", "other")
    table.add_row(
        "flows",
        f"{number(flows.get('total'))}  ("
        + ", ".join(f"{kind} {number(flows.get(kind))}" for kind in kinds)
        + ")",
    )
    return table


def _fitness(status: dict[str, Any]) -> Text:
    """Of this machine and its peer, of 1,000, and what is missing here."""
    own, theirs = status.get("fitness"), (status.get("peer") or {}).get("fitness")
    failed = [track for track in status.get("tracks") or [] if track.get("state") == "failed"]
    words = "".join(f"  ! {track.get('name')}: {_word(track.get('reason'))}" for track in failed)
    return Text.assemble(
        _judged(None if own is None else not failed, number(own)),
        f"  the peer's {number(theirs)}",
        (words, WARN),
    )


def _last_sync(last: dict[str, Any]) -> str:
    if last.get("kind") != "least":
        return f"  last sync {last['kind']}" if last.get("kind") else ""
    return (
        f"  last sync least, {number(last.get('suspects'))} of {number(last.get('buckets'))} buckets differed"
    )


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in ("weight", "flows", "id", "ring") else "left")
    return table


def _vips(vips: list[dict[str, Any]]) -> Table:
    table = _table("VIP", "side", "here")
    for vip in vips:
        if not vip.get("owned"):
            here = Text("no", style=QUIET)
        elif vip.get("verified") is False:
            here = Text("! yes, no traffic seen yet", style=WARN)
        else:
            here = Text("✔ yes", style=GOOD)
        table.add_row(_word(vip.get("address")), _word(vip.get("interface")), here)
    return table


def _services(services: list[dict[str, Any]]) -> Table:
    table = _table("service", "front", "ring", "id", "backend", "weight", "state", "flows")
    for service in services:
        name, front = _word(service.get("name")), _word(service.get("vip"))
        ring = number(service.get("ring_generation"))
        for backend in service.get("backends") or [{}]:
            state = backend.get("state")
            table.add_row(
                name,
                front,
                ring,
                _word(backend.get("id")),
                _word(backend.get("address")),
                number(backend.get("weight")),
                _judged(None if state is None else state == "up", _word(state)),
                number(backend.get("flows")),
            )
            name = front = ring = ""
    return table
