"""Planned changes of roles under 50,000 datagrams a second through NAT, bulk TCP beside them: not one may be missing.

Every datagram has a number, and the far end says which did not come. What the lab itself has lost (its sink's socket,
the machine's queue between two veth) is told apart: such a run shows nothing, and fails as what it is.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from hasyncd.lab import plan
from hasyncd.lab.crew import Member
from hasyncd.lab.judge import Judgement, Verdict
from hasyncd.lab.scenarios.bulk import judge_transfer, moved, start_transfers
from hasyncd.lab.scenarios.scenario import Scenario
from hasyncd.lab.stage import Fault, Stage
from hasyncd.lab.traffic.process import now_ns

RATE = 50_000
"""Datagrams a second."""
_FLOWS = 8
_WARM_UP_S = 30.0
_SETTLE_S = 1.2
"""Longer than the old owner relays."""
_LINGER_S = 0.5
"""How long the last datagrams may be on their way."""
_MOST_BYTES = 1 << 50
"""More than any transfer moves before it is ordered to end, which is after the last change."""
_TRANSFER_TIMEOUT_S = 60.0
_NOTE_S = 0.02
_DROPS = ("drop_", "receive_dropped", "send_errors")


async def play(stage: Stage) -> Judgement:
    """As many changes as were asked for, there and back again."""
    crew = stage.crew
    sink = await _start_sink(stage)
    source = crew.recruit(plan.PRIVATE_HOSTS[-1].name, "flood", {
        "role": "source", "source": plan.PRIVATE_HOSTS[-1].addresses[0],
        "target": (plan.SERVERS[-1].addresses[0], plan.FLOOD_PORT), "rate": RATE, "flows": _FLOWS,
    })  # fmt: skip
    transfers = start_transfers(stage, _MOST_BYTES)
    progress: list[tuple[int, int]] = []
    noting = asyncio.create_task(_note(transfers, progress))
    await crew.wait_for(sink, lambda report: report.get("received", 0) > RATE / 2, _WARM_UP_S)
    dropped = _backlog_drops()
    for _ in range(stage.kills):
        await stage.run_for(stage.chance.uniform(0.5, 1.0))
        await stage.pair.wait_ready()
        await stage.switch_over()
        await stage.run_for(_SETTLE_S)
    source.order(do="finish")
    await crew.wait_for(source, lambda report: bool(report.get("finished")))
    await asyncio.sleep(_LINGER_S)
    sink.order(do="finish")
    await crew.wait_for(sink, lambda report: bool(report.get("finished")))
    judgement = Judgement(progress=progress)
    stage.notes += [await _drops(stage, gateway.name) for gateway in plan.GATEWAYS]
    _judge_flood(stage, judgement, source.report, sink.report, _backlog_drops() - dropped)
    await _judge_transfers(stage, judgement, transfers)
    noting.cancel()
    return judgement


async def _note(transfers: list[Member], progress: list[tuple[int, int]]) -> None:
    """Until cancelled: (moment, bytes that the transfers have moved)."""
    while True:
        progress.append((now_ns(), sum(map(moved, transfers))))
        await asyncio.sleep(_NOTE_S)


async def _start_sink(stage: Stage) -> Member:
    host = plan.SERVERS[-1]
    task = {"role": "sink", "address": host.addresses[0], "port": plan.FLOOD_PORT}
    sink = stage.crew.recruit(host.name, "flood", task)
    await stage.crew.wait_for(sink, lambda report: bool(report.get("ready")))
    return sink


def _judge_flood(
    stage: Stage, judgement: Judgement, source: dict[str, Any], sink: dict[str, Any], dropped: int
) -> None:
    lost = sink["lost"] + source["sent"] - 1 - sink["highest"]
    verdict = Verdict.SURVIVED if sink["peers"] == _FLOWS else Verdict.REMAPPED
    judgement.udp.verdicts[verdict] += _FLOWS
    judgement.udp.lost_datagrams = lost
    silences = [
        max((end - begin for begin, end in sink["silences"] if end >= fault.at_ns), default=0)
        for fault in stage.faults
    ]
    judgement.silences_ns += silences
    judgement.outage_ns = max(silences, default=None)
    judgement.figures["flood"] = {
        "sent": source["sent"], "per_second": round(source["sent"] / source["seconds"]), "lost": lost,
        "twice": sink["twice"], "late": sink["late"],
    }  # fmt: skip
    stage.notes.append(
        f"{source['sent']:,} datagrams, {source['sent'] / source['seconds']:,.0f} a second: {lost} lost, "
        f"{sink['twice']} came twice, {sink['late']} behind a later one"
    )
    stage.notes += [_when(first, last, source["marks"], stage.faults) for first, last in sink["missing"][:10]]
    for count, where in (
        (sink["overflowed"], "sink's socket"),
        (dropped, "machine's queue between two veth"),
    ):
        if count:
            stage.failures.append(f"the {where} had no room for {count} packets: this run shows nothing")


async def _drops(stage: Stage, name: str) -> str:
    """What a node says that it has dropped."""
    status = await stage.pair.status(name)
    counters = status["counters"] if status else {}
    told = [f"{key} {count}" for key, count in counters.items() if count and key.startswith(_DROPS)]
    return f"{name} dropped: {', '.join(told) or 'nothing'}; relayed {counters.get('relayed_packets')}"


def _when(first: int, last: int, marks: list[tuple[int, int]], faults: list[Fault]) -> str:
    """When datagrams were sent that are missing, to a thousand of them."""
    sent_ns = max((at_ns for number, at_ns in marks if number <= first), default=marks[0][1])
    after_ms = min(((sent_ns - fault.at_ns) / 1e6 for fault in faults), key=abs)
    return f"missing: {last - first + 1} from {first} on, sent {after_ms:+.0f} ms from a change"


async def _judge_transfers(stage: Stage, judgement: Judgement, transfers: list[Member]) -> None:
    def ended() -> bool:
        return all(transfer.report.get("finished") or transfer.report.get("ended") for transfer in transfers)

    for transfer in transfers:
        transfer.order(do="finish")
    await stage.wait_until(ended, "the transfers", _TRANSFER_TIMEOUT_S)
    for transfer in transfers:
        judge_transfer(judgement, transfer.report, stage.faults, transfer.name)
    judgement.silences_ns.sort()


def _backlog_drops() -> int:
    """Packets that found the queue of a core full (net.core.netdev_max_backlog), anywhere on this machine."""
    lines = Path("/proc/net/softnet_stat").read_text().splitlines()
    return sum(int(line.split()[1], 16) for line in lines)


SCENARIO = Scenario(
    "switchover-under-load",
    f"hand over under {RATE:,} datagrams a second and bulk TCP: none may be lost",
    play,
    datagrams_may_be_lost=False,
    deed="handed over",
)
