"""How the status of a node looks to a person.

Nothing is told by colour alone: every judgement is a word and a sign, coloured in blue and yellow, which
colour-blind eyes keep apart. What the daemon does not know (null) is a dash.
"""

from __future__ import annotations

from typing import Any, Final

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from hasyncd.cli.services_screen import services_table
from hasyncd.cli.sparkline import KEPT, History
from hasyncd.cli.status_words import ALARM, GOOD, QUIET, WARN, judged, number, plain_table, quantity, word

_BITS: Final = 8
_TRACE_FRAME: Final = 40
"""What stands beside the blocks of a trace."""


def screen(status: dict[str, Any], history: History | None = None) -> RenderableType:
    """The whole screen for one `status` object; with what was before it, where it is watched."""
    parts: list[RenderableType] = [_headline(status), _verdict(status)]
    incomplete = _incomplete(status)
    parts += [*([incomplete] if incomplete else []), Text(""), _nodes(status), Text(""), _facts(status)]
    parts += [Text(""), Traces(history)] if history else [_rates(status)]
    if status.get("vips"):
        parts += [Text(""), _vips(status["vips"])]
    if status.get("services"):
        parts += [Text(""), services_table(status["services"])]
    return Group(*parts)


def _headline(status: dict[str, Any]) -> Text:
    role = word(status.get("role"))
    return Text.assemble(
        (word(status.get("node")), "bold"),
        "  ",
        judged(role in ("primary", "backup"), role),
        (", not yet seen to have converged" if status.get("converged") is False else "", WARN),
        "  generation ",
        number(status.get("generation")),
        (f"  engine {word(status.get('engine'))}  version {word(status.get('version'))}", QUIET),
    )


def _verdict(status: dict[str, Any]) -> Text:
    """The sentence for which the rest is the proof."""
    role, sync = status.get("role"), status.get("sync") or {}
    total = (status.get("flows") or {}).get("total")
    skewed = sync.get("reason") == "config_skew"
    ready = sync.get("state") == "ready" or skewed
    at_risk = sync.get("at_risk_flows")
    if skewed and (role == "backup" or at_risk is not None):
        return judged(False, "the peer has every flow, and another configuration: it would not go on alike")
    if role == "primary" and ready and at_risk is not None:
        flows = "1 flow" if at_risk == 1 else f"{number(at_risk)} flows"
        return judged(at_risk == 0, f"if this node died now, {flows} would be lost")
    if role == "primary":
        return judged(
            False, f"if this node died now, its {number(total)} flows would be lost: no backup in step"
        )
    if role == "backup" and ready:
        return judged(True, f"could take over now, with {number(total)} flows")
    if role == "backup":
        return judged(False, "could not take over without loss: the copy is not complete")
    return judged(False, "forwards nothing in this role")


def _incomplete(status: dict[str, Any]) -> Text | None:
    """What stays true until the next takeover: flows were lost, or may have been."""
    certificate = status.get("certificate") or {}
    if status.get("role") != "primary" or certificate.get("complete") is not False:
        return None
    missing = certificate.get("flows_missing")
    how_many = "nobody knows how many" if missing is None else f"at most {number(missing)}"
    return Text(f"! TOOK OVER INCOMPLETE: {how_many} flows of the former primary were missing", style=ALARM)


# --- both nodes -------------------------------------------------------------------------------------------


def _nodes(status: dict[str, Any]) -> Table:
    """Side by side: this node, and its peer as it last told of itself, which is no judgement once it is lost."""
    peer, sync, flows = status.get("peer") or {}, status.get("sync") or {}, status.get("flows") or {}
    lost = peer.get("state") == "lost"
    table = plain_table("", "this node", "its peer")
    if lost:
        table.columns[2].style = QUIET
    heard = peer.get("last_heard_ms")
    there = Text.assemble(
        judged(peer.get("state") == "connected", word(peer.get("state"))),
        f", heard {number(heard)} ms ago" if heard is not None else "",
    )
    table.add_row("node", word(status.get("node")), Text.assemble(word(peer.get("node")), "  ", there))
    table.add_row(
        "role",
        _role(status.get("role"), solo=status.get("solo")),
        _was(peer) if lost else _role(peer.get("role")),
    )
    table.add_row("generation", number(status.get("generation")), number(peer.get("generation")))
    kinds = ", ".join(
        f"{kind} {number(flows[kind])}" for kind in ("tcp", "udp", "icmp", "other") if flows.get(kind)
    )
    table.add_row(
        "flows", f"{number(flows.get('total'))}{f'  ({kinds})' if kinds else ''}", number(peer.get("flows"))
    )
    table.add_row("at risk", _at_risk(sync), _at_risk(peer))
    table.add_row("copy", _copy(sync), Text("–") if lost else _peers_copy(peer))
    failed = [track for track in status.get("tracks") or [] if track.get("state") == "failed"]
    own = status.get("fitness")
    fitness = Text.assemble(
        judged(None if own is None else not failed, number(own)),
        ("".join(f"  ! {track.get('name')}: {word(track.get('reason'))}" for track in failed), WARN),
    )
    table.add_row("fitness", fitness, number(peer.get("fitness")))
    return table


def _role(role: object, *, solo: object = None) -> Text:
    told = judged(None if role is None else role in ("primary", "backup"), word(role))
    return Text.assemble(told, ("  ! alone", WARN)) if solo is True else told


def _was(peer: dict[str, Any]) -> Text:
    return Text(f"was {peer['role']}" if peer.get("role") else "–")


def _at_risk(of: dict[str, Any]) -> str:
    oldest = f", oldest {number(of.get('at_risk_oldest_ms'))} ms" if of.get("at_risk_flows") else ""
    return f"{number(of.get('at_risk_flows'))}{oldest}"


def _copy(sync: dict[str, Any]) -> Text:
    state = sync.get("state")
    return Text.assemble(
        judged(None if state is None else state == "ready", word(state)),
        (f"  ! {sync['reason']}", WARN) if sync.get("reason") else "",
    )


def _peers_copy(peer: dict[str, Any]) -> Text:
    """Only a backup says whether it is in step."""
    if peer.get("role") != "backup" or peer.get("ready") is None:
        return Text("–")
    return judged(peer["ready"], "ready" if peer["ready"] else "not in step")


# --- what they share --------------------------------------------------------------------------------------


def _facts(status: dict[str, Any]) -> Table:
    peer, sync = status.get("peer") or {}, status.get("sync") or {}
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column()
    table.add_row("paths", _paths(status, peer))
    if witness := status.get("witness"):
        table.add_row("witness", _witness(witness))
    table.add_row(
        "sync",
        Text.assemble(
            f"commit {word(sync.get('commit'))}",
            ("  ! suspended: the peer is slow, new flows do not wait", WARN)
            if sync.get("commit_suspended")
            else "",
            f"  lag {number(sync['lag_flows'])} flows, {number(sync.get('lag_ms'))} ms"
            if sync.get("lag_flows") is not None
            else "",
            f"  full syncs {number(sync.get('full_syncs'))}  ",
            _released(sync.get("fail_open_released")),
        ),
    )
    match = sync.get("digest_match")
    digest = "not compared yet" if match is None else "alike" if match else "DIFFERENT"
    table.add_row("tables", Text.assemble(judged(match, digest), _last_sync(sync.get("last") or {})))
    return table


def _paths(status: dict[str, Any], peer: dict[str, Any]) -> Text:
    told: list[Text] = []
    for path in peer.get("paths") or []:
        up = path.get("up") is True
        told += [judged(up, f"{path.get('name')} {'up' if up else 'DOWN'}"), Text("  ")]
    return Text.assemble(
        *(told or [Text("–  ")]),
        ("! INSECURE: neither authenticated nor encrypted", ALARM) if status.get("insecure") else "",
        (f"! KEY LOG: {peer['key_log']} opens the stream", ALARM) if peer.get("key_log") else "",
    )


def _released(released: int | None) -> Text:
    return judged(None if released is None else released == 0, f"released unconfirmed {number(released)}")


def _witness(witness: dict[str, Any]) -> Text:
    reachable, node = witness.get("reachable"), witness.get("node")
    told = {True: "reachable", False: "lost"}.get(reachable, "not asked yet")  # type: ignore[arg-type]
    state = "acts alone" if witness.get("alone") else "wrote last"
    return Text.assemble(
        judged(reachable, told),
        f"  {node} {state} in generation {number(witness.get('generation'))}" if node else "",
    )


def _last_sync(last: dict[str, Any]) -> str:
    if last.get("kind") != "least":
        return f"  last sync {last['kind']}" if last.get("kind") else ""
    return (
        f"  last sync least, {number(last.get('suspects'))} of {number(last.get('buckets'))} buckets differed"
    )


# --- traffic ----------------------------------------------------------------------------------------------


def _rates(status: dict[str, Any]) -> Table:
    rates = status.get("rates") or {}
    of_bytes = rates.get("bytes_per_s")
    bits = None if of_bytes is None else of_bytes * _BITS
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column()
    table.add_row(
        "rates ",
        f"{quantity(rates.get('packets_per_s'))} packets/s  {quantity(bits, 'bit/s')}  "
        f"{quantity(rates.get('new_flows_per_s'))} connections/s",
    )
    return table


class Traces:
    """A line for each traced number, as long as there is room for."""

    def __init__(self, history: History) -> None:
        self._history = history

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = max(1, min(KEPT, options.max_width - _TRACE_FRAME))
        table = Table.grid(padding=(0, 2))
        for style, justify in (("bold", "left"), (None, "right"), (None, "left"), (QUIET, "left")):
            table.add_column(style=style, justify=justify, no_wrap=True)  # type: ignore[arg-type]
        for name, samples in self._history.samples.items():
            peak = self._history.peak(name)
            table.add_row(
                name, quantity(samples[-1] if samples else None), self._history.line(name, width),
                f"peak {quantity(peak)}" if peak else "",
            )  # fmt: skip
        yield table


def _vips(vips: list[dict[str, Any]]) -> Table:
    table = plain_table("VIP", "side", "here")
    for vip in vips:
        if not vip.get("owned"):
            here = Text("no", style=QUIET)
        elif vip.get("claimed_by"):
            here = Text(f"! yes, and {vip['claimed_by']} answers for it, too", style=ALARM)
        elif vip.get("verified") is False:
            here = Text("! yes, no traffic seen yet", style=WARN)
        else:
            here = Text("✔ yes, verified" if vip.get("verified") else "✔ yes", style=GOOD)
        table.add_row(word(vip.get("address")), word(vip.get("interface")), here)
    return table
