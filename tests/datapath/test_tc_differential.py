"""Both engines live through the same random traffic: every frame leaves both, or neither, and as the same bytes.

One has the kernel's program before it, as on a real interface: what that does not forward goes to the engine. Packets
open connections, end them, reset them, are torn; backends come and go; so flows enter and leave the cache all the time.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from hasyncd._native import INSIDE, OUTSIDE, BackendTable, Engine
from tests.datapath.twins import CLIENT6, ETHERNET, HOST, SERVER, VIP6, Twins
from tests.native import engines, frames, frames6, gateway6
from tests.native.frames import ACK, FIN, PSH, RST, SYN
from tests.native.frames6 import tcp6, udp6

pytestmark = pytest.mark.e2e

STEPS = 3000
FLAGS = [SYN, SYN | ACK, FIN | ACK, RST, RST | ACK, PSH, 0]
Ends = tuple[str, int, str, int]


@dataclass
class Talk:
    """Two ends; `back` is how the far one sees it, once a packet has reached it."""

    side: int
    there: Ends
    tcp: bool
    ipv6: bool
    back: Ends | None = None

    def frame(self, forth: bool, flags: int, data: bytes) -> bytes:
        ends = self.there if forth else self.back
        assert ends
        if self.tcp:
            return tcp6(*ends, flags, data) if self.ipv6 else frames.tcp(*ends, flags, data)
        return udp6(*ends, data) if self.ipv6 else frames.udp(*ends, data)

    def note(self, left: bytes) -> None:
        if self.ipv6:
            seen6 = frames6.read6(left)
            self.back = (seen6.target, seen6.dport, seen6.source, seen6.sport)
        else:
            seen = frames.read(left)
            self.back = (seen.target, seen.dport, seen.source, seen.sport)


def make_talks() -> list[Talk]:
    """Translated, balanced and passed ones."""
    talks = []
    for n in range(6):
        talks += [
            Talk(INSIDE, (HOST, 40000 + n, SERVER, 443), True, False),
            Talk(INSIDE, (HOST, 41000 + n, SERVER, 53), False, False),
            Talk(OUTSIDE, (engines.CLIENT, 42000 + n, engines.OUTSIDE_VIP, 80), True, False),
            Talk(OUTSIDE, (CLIENT6, 43000 + n, VIP6, 80), True, True),
            Talk(INSIDE, (gateway6.HOST, 44000 + n, gateway6.SERVER, 443), True, True),
            Talk(INSIDE, (gateway6.HOST, 45000 + n, gateway6.SERVER, 53), False, True),
        ]
    return talks


def pass_through(twins: Twins, side: int, frame: bytes) -> bytes | None:
    """What left both engines."""
    now = engines.now_ns()
    verdict = twins.program(side, frame)
    twins.plain.inject(side, frame, now)
    expected = [(out, sent[ETHERNET:]) for out, sent in twins.plain.take_sent()]
    if verdict.is_hit:
        left = [(1 - side, verdict.frame[ETHERNET:])]
    else:
        assert verdict.is_kept
        twins.cached.inject(side, frame, now)
        left = [(out, sent[ETHERNET:]) for out, sent in twins.cached.take_sent()]
    assert left == expected
    return bytes(ETHERNET) + left[0][1] if len(left) == 1 and left[0][0] != side else None


def publish(engine: Engine, states: tuple[int, int]) -> None:
    rows = [
        (each, frames6.number6(address), 8080, 1, states[each - 1])
        for each, address in gateway6.BACKENDS6.items()
        if states[each - 1] < 3
    ]
    members = [(row[0], 1) for row in rows if row[4] == 0]
    engine.publish(gateway6.WEB6, rows, BackendTable("maglev", members, 2))


def tear(chance: random.Random, frame: bytes) -> bytes:
    """A bit behind the addresses is another, or the frame is cut there: what to make of it is for the engine to see."""
    headers = 54 if frame[12:14] == b"\x86\xdd" else 34
    torn = bytearray(frame)
    torn[chance.randrange(headers, len(torn))] ^= 1 << chance.randrange(8)
    return bytes(torn[: chance.randrange(headers, len(torn))] if chance.random() < 0.2 else torn)


@pytest.mark.parametrize("seed", range(6))
def test_both_engines_forward_the_same_bytes(twins: Twins, seed: int) -> None:
    chance, talks = random.Random(seed), make_talks()
    for step in range(STEPS):
        talk = chance.choice(talks)
        forth = talk.back is None or chance.random() < 0.5
        flags = SYN if talk.back is None else ACK
        if chance.random() < 0.02:
            flags = chance.choice(FLAGS)
        elif talk.back and not forth and chance.random() < 0.1:
            flags = SYN | ACK
        frame = talk.frame(forth, flags, chance.randbytes(chance.choice([0, 1, 9, 600])))
        if chance.random() < 0.03:
            pass_through(twins, talk.side if forth else 1 - talk.side, tear(chance, frame))
            continue
        left = pass_through(twins, talk.side if forth else 1 - talk.side, frame)
        if forth and left:
            talk.note(left)
        if step % 300 == 299:
            states = chance.choice([(0, 0), (0, 1), (2, 0), (3, 0), (0, 3)])
            for engine in (twins.cached, twins.plain):
                publish(engine, states)
                engine.tick(engines.now_ns())
    counters = twins.cached.counters()
    assert counters["cache_hits"] > STEPS / 5
    assert counters["cache_taken_out"] > 5, "flows left the cache, too"
    assert [flow[:6] for flow in everything(twins.cached)] == [flow[:6] for flow in everything(twins.plain)]


def everything(engine: Engine) -> list[tuple[object, ...]]:
    return [
        (flow.proto, flow.original, flow.reply, flow.state, flow.server_id, flow.rule)
        for flow in engines.flows(engine)
    ]
