"""The primary is killed, and the first announcements of its successor are lost on both LANs.

Hosts go on sending to the dead node until a later announcement of the train (proto/pair.md §2) arrives, so the silence
is as long as that; nobody may be left behind.
"""

from __future__ import annotations

from hasyncd.lab.acts import call_roll, require_owner
from hasyncd.lab.faults import Wires
from hasyncd.lab.scenarios.scenario import Scenario
from hasyncd.lab.stage import Stage

_TRAIN_MS = (0, 50, 200, 1000)
_LANS = 2
_FORMS = 2
"""Request and reply: each announcement of an IPv4 VIP is both; of an IPv6 VIP it is one advertisement."""
_MOST = len(_TRAIN_MS) * _FORMS - 1
"""The reply form of the announcement after 1 s arrives at the latest."""


async def play(stage: Stage) -> None:
    """One kill; how many are lost is in the seed's hand."""
    wires = Wires(stage.topology)
    await stage.open_flows()
    await stage.run_for(stage.chance.uniform(1.5, 3.5))
    before = await call_roll(stage)
    count = stage.chance.randint(1, _MOST)
    advertisements = count // _FORMS  # so that both families hear from the same announcement on
    wires.lose_announcements(before.backup, count, advertisements)
    fault = await stage.kill_primary()
    fault.deed = f"was killed, and {count} announcements of each VIP's new owner were lost"
    await stage.until_proven(fault)
    lost, meant = wires.dropped(), _LANS * (count + advertisements)
    stage.require(lost == meant, f"{lost} announcements were lost, {meant} should have been")
    told = _TRAIN_MS[count // _FORMS]
    stage.notes.append(
        f"{lost} announcements were lost; the first that hosts could hear came {told} ms after the promotion"
    )
    wires.heal()
    await require_owner(stage, before.backup, "after the announcements had been lost")


SCENARIO = Scenario(
    "garp-lost",
    "kill the primary and lose its successor's first announcements: hosts learn late, not never",
    play,
    ours_only=True,
)
