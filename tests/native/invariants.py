"""The invariants of NAT, tracking and take-over by name: one function each, with what it found in words.

README.md says which test holds which. These here look at a `Moment`: what an engine shows, beside what the model says.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple

from hasyncd._native import Engine
from tests.native.frames import ICMP, TCP, UDP
from tests.native.model import SECOND, Birth, Flow, Model
from tests.native.model_rules import ESTABLISHED, SYN_SENT, Ends

FLOORS_S = {UDP: 120, ICMP: 60}
TCP_ESTABLISHED_FLOOR_S, TCP_TRANSITORY_FLOOR_S, HALF_OPEN_UNDER_PRESSURE_S = 7440, 240, 30


class Row(NamedTuple):
    """A line of `list_flows`."""

    original: Ends
    reply: Ends
    state: int
    timeout_s: int
    service: int
    server: int
    rule: int
    at_risk: bool


@cache
def dotted(address: object) -> str:
    assert isinstance(address, int)
    return ".".join(str(byte) for byte in address.to_bytes(4, "big"))


def rows(engine: Engine, now: int) -> list[Row]:
    _, listed = engine.list_flows(0, 1 << 20, now)
    made = []
    for proto, src, sport, dst, dport, rsrc, rsport, rdst, rdport, *rest in listed:
        original = Ends(proto, dotted(src), sport, dotted(dst), dport)  # type: ignore[arg-type]
        reply = Ends(proto, dotted(rsrc), rsport, dotted(rdst), rdport)  # type: ignore[arg-type]
        made.append(Row(original, reply, *rest))  # type: ignore[arg-type]
    return made


@dataclass
class Moment:
    """What an engine shows at one time."""

    now: int
    rows: list[Row]
    counters: dict[str, int]

    @cached_property
    def by_tuples(self) -> dict[tuple[Ends, Ends], Row]:
        return {(row.original, row.reply): row for row in self.rows}

    @classmethod
    def of(cls, engine: Engine, now: int) -> Moment:
        return cls(now, rows(engine, now), engine.counters())


# --- of every moment ----------------------------------------------------------------------------------------


def check_n1_no_tuple_is_two_flows(moment: Moment) -> None:
    """N1: original and reply tuples together are unique, so that forward and back are each other's inverse."""
    both = Counter(ends for row in moment.rows for ends in (row.original, row.reply))
    assert not [ends for ends, count in both.items() if count > 1], "N1: one tuple names two flows"


def check_n4_every_flow_is_accounted_for(moment: Moment, installed: int) -> None:
    """N4: what was imported and made less what ended is what is there."""
    made = installed + moment.counters["flows_created"] - moment.counters["flows_closed"]
    assert made == len(moment.rows), f"N4: {made} flows by the counters, {len(moment.rows)} in the table"


def check_n4_nothing_is_left(engine: Engine) -> None:
    """N4: when everything has aged out."""
    left = (
        engine.flow_counts(),
        engine.digest(),
        engine.count_at_risk()[0],
        engine.counters()["half_open_flows"],
    )
    assert left[:2] == ((0, 0, 0, 0), (0, 0)), f"N4: left behind: {left}"
    assert left[3] == 0, f"N4: {left[3]} half-open flows of nobody"


def check_n4_every_port_is_usable_again(moment: Moment, wanted: set[Ends]) -> None:
    """N4: what was freed can be given out: no bit is left set."""
    given = {row.reply for row in moment.rows}
    assert wanted <= given, f"N4: nobody gets {wanted - given}"


def check_n5_a_port_is_shared_only_towards_others(moment: Moment, model: Model) -> None:
    """N5, address- and port-dependent mapping: two flows with one public port go to different ends."""
    hidden = [row for row in moment.rows if row.reply.dst != row.original.src]
    shared = Counter(row.reply for row in hidden)
    assert not [reply for reply, count in shared.items() if count > 1], "N5: one public port twice to one end"
    for row in hidden:
        own = model.rules.own_public(row.original.src)
        wanted = (own,) if own else model.rules.publics
        assert row.reply.dst in wanted, f"N5: {row} leaves by an address that is not its source's"


def check_n7_no_source_has_more_than_its_quota(moment: Moment, model: Model) -> None:
    """N7: imported flows included."""
    hidden = [row.original.src for row in moment.rows if row.reply.dst != row.original.src]
    over = {
        source: count
        for source, count in Counter(hidden).items()
        if count > model.rules.quota and model.rules.own_public(source) is None
    }
    assert not over, f"N7: more flows than {model.rules.quota}: {over}"


def check_n11_both_directions_live_and_die_together(moment: Moment, model: Model) -> None:
    """N11: the table holds exactly the pairs that the model holds; a tuple alone is nowhere."""
    there = {(row.original, row.reply) for row in moment.rows}
    wanted = {flow.tuples for flow in model.flows}
    assert there == wanted, f"N11: too many {there - wanted}, missing {wanted - there}"


def check_c2_no_refresh_shortens_a_life(moment: Moment, before: Moment, model: Model) -> None:
    """C2: a timeout gets shorter only where the state changes, or half-open flows are under pressure."""
    were = before.by_tuples
    for flow in model.flows:
        was = were.get(flow.tuples)
        row = moment.by_tuples[flow.tuples]
        if not was or was.state != row.state or flow.pressed:
            continue
        had_s = min(was.timeout_s, model.usual_timeout_s(flow))  # a snapshot's may be more (model.py)
        ends, ended = moment.now + (row.timeout_s + 1) * SECOND, before.now + had_s * SECOND
        assert ends >= ended, f"C2: {row} had {had_s} s, {(moment.now - before.now) // SECOND} s ago"


def check_c1_states_are_those_of_the_reference_table(moment: Moment, model: Model) -> None:
    """C1: TCP's by the table of test_tcp_state.c; UDP and ICMP are unreplied or replied."""
    wanted = {flow.tuples: flow.state for flow in model.flows}
    for row in moment.rows:
        assert row.state == wanted[row.original, row.reply], (
            f"C1: {row}, not {wanted[row.original, row.reply]}"
        )


def check_c7_new_timeouts_are_not_below_the_rfcs(moment: Moment, model: Model) -> None:
    """C7: RFC 5382 REQ-5, RFC 4787 REQ-5, RFC 5508 REQ-2; half-open flows under pressure: RFC 7857 §2.1."""
    fresh = {flow.tuples: flow for flow in model.flows if flow.refreshed == moment.now}
    for row in moment.rows:
        if not (flow := fresh.get((row.original, row.reply))):
            continue
        floor = FLOORS_S.get(flow.proto, TCP_TRANSITORY_FLOOR_S)
        if flow.proto == TCP and flow.state == ESTABLISHED:
            floor = TCP_ESTABLISHED_FLOOR_S
        if flow.pressed:
            floor = HALF_OPEN_UNDER_PRESSURE_S
        assert row.timeout_s >= floor, f"C7: {row} is below {floor} s"


def check_timeouts_are_the_models(moment: Moment, model: Model) -> None:
    wanted = {flow.tuples: flow for flow in model.flows}
    for row in moment.rows:
        flow = wanted[row.original, row.reply]
        ends = moment.now + row.timeout_s * SECOND
        assert flow.earliest <= max(moment.now, ends + SECOND), f"{row}: too short for {flow}"
        assert ends <= max(flow.latest, model.grace_until) + SECOND, f"{row}: too long for {flow}"


def check_f1_a_flow_keeps_its_backend(moment: Moment, model: Model) -> None:
    """F1: whatever becomes of the table meanwhile."""
    wanted = {flow.tuples: flow for flow in model.flows}
    for row in moment.rows:
        flow = wanted[row.original, row.reply]
        assert (row.service, row.server) == (flow.service, flow.server), f"F1: {row}, not {flow}"
        assert row.rule == flow.rule, f"F1: {row}, not {flow}"
        if row.service >= 0:
            backend = model.rules.backends[row.server]
            assert (row.reply.src, row.reply.sport) == backend, f"F1: {row} is not at {backend}"


def check_f4_the_table_is_a_single_nodes(moment: Moment, model: Model) -> None:
    """F4: after any number of take-overs the synced flows are those of a node that never failed."""
    check_n11_both_directions_live_and_die_together(moment, model)
    check_c1_states_are_those_of_the_reference_table(moment, model)
    check_f1_a_flow_keeps_its_backend(moment, model)


# --- of one decision ----------------------------------------------------------------------------------------


def check_n2_the_port_is_the_rules(birth: Birth, reply: Ends) -> None:
    """N2: in the range, not reserved, of its parity, nobody's way in."""
    if birth.eligible:
        assert reply in birth.eligible, f"N2: {reply} for {birth.ends} is none of the rule's"


def check_n3_refused_only_when_every_port_is_taken(birth: Birth) -> None:
    """N3: of every public address."""
    assert not birth.eligible, f"N3: {birth.ends} was refused, and these are free: {list(birth.allowed)}"


def check_n6_one_host_has_one_public_address(birth: Birth, reply: Ends) -> None:
    """N6: unless that has no port left."""
    publics = {allowed.dst for allowed in birth.allowed}
    if birth.eligible and publics:
        assert reply.dst in publics, f"N6: {birth.ends} leaves by {reply.dst}, and {publics} has ports"


def check_n8_a_freed_port_rests(birth: Birth, reply: Ends, forgotten: int) -> None:
    """N8: but for its own endpoint, and for what a bounded memory had to forget, which is counted."""
    assert forgotten or reply not in birth.held, f"N8: {reply} was another's a moment ago"


def check_c3_nobody_in_use_is_dropped_early(moment: Moment, model: Model, victims: list[Flow]) -> None:
    """C3: only what was never answered, or is over."""
    there = {(row.original, row.reply) for row in moment.rows}
    gone = [flow for flow in model.flows if flow.tuples not in there]
    assert all(flow in victims for flow in gone), f"C3: dropped early: {gone}"


def check_f2_a_syn_leads_to_a_live_backend(model: Model, flow: Flow) -> None:
    """F2: a SYN that was never answered, or that comes after the end, goes where the table of now leads."""
    if flow.service >= 0 and flow.state == SYN_SENT:
        assert flow.server in model.rings[flow.service], (
            f"F2: a SYN of {flow} goes to a backend that has left"
        )


def check_f3_nothing_new_goes_to_an_absent_backend(moment: Moment, before: Moment, model: Model) -> None:
    """F3: a backend that is out of the table gets no new flow; those that it has it keeps (draining)."""
    known = {(row.original, row.reply) for row in before.rows}
    for row in moment.rows:
        if row.service >= 0 and (row.original, row.reply) not in known:
            assert row.server in model.rings[row.service], f"F3: {row} is new, and its backend has left"


def check_n10_an_error_speaks_its_receivers_language(flow: Flow, way: int, target: str, quoted: Ends) -> None:
    """N10: the packet quoted to its sender is the one that it sent."""
    assert quoted == flow.tuples[way], f"N10: {quoted} quoted to who sent {flow.tuples[way]}"
    assert target == flow.tuples[way].src, f"N10: an error about {quoted} goes to {target}"
