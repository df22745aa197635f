"""Long TCP transfers, up through the balancer and down through NAT at once, and a kill in their middle.

The bytes are hashed where they are sent and where they arrive: bit for bit, or lost.
"""

from __future__ import annotations

from typing import Any

from hasyncd.lab import plan
from hasyncd.lab.crew import Member
from hasyncd.lab.judge import Judgement, Verdict
from hasyncd.lab.scenarios.scenario import Scenario
from hasyncd.lab.stage import Fault, Stage
from hasyncd.lab.traffic.process import now_ns

_TRANSFER_TIMEOUT_S = 900.0
_FAST_SHARE = 0.99


async def play(stage: Stage) -> Judgement:
    """Two transfers, one kill."""
    transfers = start_transfers(stage, stage.bulk_bytes)

    def moved_by_all() -> int:
        return sum(map(moved, transfers))

    total = stage.bulk_bytes * len(transfers)
    turn = int(total * stage.chance.uniform(0.35, 0.6))

    progress: list[tuple[int, int]] = []

    def note() -> None:
        progress.append((now_ns(), moved_by_all()))
        stage.progress.step("transferring", progress[-1][1] / 1e6, total / 1e6)

    def reached() -> bool:
        note()
        return moved_by_all() >= turn or all(transfer.report.get("ended") for transfer in transfers)

    def ended() -> bool:
        note()
        return all(transfer.report.get("finished") or transfer.report.get("ended") for transfer in transfers)

    await stage.wait_until(reached, "half of the transfers", _TRANSFER_TIMEOUT_S)
    fault = await stage.kill_primary()
    await stage.wait_until(ended, "the transfers", _TRANSFER_TIMEOUT_S)
    await _require_fast_path(stage)
    judgement = Judgement(progress=progress)
    for transfer in transfers:
        judge_transfer(judgement, transfer.report, [fault], transfer.name, wanted=stage.bulk_bytes)
    judgement.silences_ns.sort()
    return judgement


async def _require_fast_path(stage: Stage) -> None:
    """Of the tc engine: nearly all of it was forwarded by the kernel."""
    if stage.pair.engine != "tc":
        return
    for gateway in plan.GATEWAYS:
        status = await stage.pair.status(gateway.name)
        if status is None or status["role"] != "primary":
            continue
        counters = status["counters"]
        # Not of what it received: that is also what bridges flooded to it while it was the backup.
        share = counters["cache_hits"] / max(1, counters["sent_packets"])
        stage.notes.append(f"{100 * share:.2f} % of what {gateway.name} sent was forwarded by the kernel")
        stage.require(share > _FAST_SHARE, "the engine had more to do than it should")


def start_transfers(stage: Stage, most_bytes: int) -> list[Member]:
    """One up through the balancer, one down through NAT (or past it, over IPv6); each ends there, or when ordered."""
    transfers = []
    for host, source, verb, target in _ways(round(2 * stage.load.ipv6 / 100)):
        task = {
            "target": target,
            "source": source,
            "verb": verb,
            "bytes": most_bytes,
            "seed": stage.chance.randrange(1 << 32),
        }
        transfers.append(stage.crew.recruit(host.name, "bulk", task))
    return transfers


def _ways(over_ipv6: int) -> list[tuple[plan.Host, str, str, tuple[str, int]]]:
    """The two transfers, `over_ipv6` of them over IPv6: (host, source, verb, target)."""
    client, private, server = plan.CLIENTS[0], plan.PRIVATE_HOSTS[0], plan.SERVERS[0]
    up = (client, "PUT", [plan.OUTSIDE_VIP, plan.OUTSIDE_VIP6], plan.BULK_SERVICE_PORT)
    down = (private, "GET", [server.addresses[0], server.addresses6[0]], plan.BULK_PORT)
    ways = []
    for place, (host, verb, targets, port) in enumerate((up, down)):
        family = place < over_ipv6
        source = (host.addresses6 if family else host.addresses)[0]
        ways.append((host, source, verb, (targets[family], port)))
    return ways


def moved(transfer: Member) -> int:
    """Bytes that have gone through so far."""
    mine = transfer.report.get("mine")
    return int(mine["bytes"] if mine else transfer.report.get("moved", 0))


def judge_transfer(
    judgement: Judgement, report: dict[str, Any], faults: list[Fault], name: str, wanted: int | None = None
) -> None:
    """Adds the verdict on one transfer, from what its connecting side reported.

    `wanted` bytes, or, of one that was ordered to end, as many as its sender says.
    """
    mine, theirs = report.get("mine") or {}, report.get("theirs") or {}
    whole = bool(theirs) and mine.get("bytes") == theirs["bytes"] and wanted in (None, theirs["bytes"])
    if whole and mine["sha256"] == theirs["sha256"] and report["ended_ns"] > faults[-1].at_ns:
        verdict = Verdict.SURVIVED
    elif whole and mine["sha256"] == theirs["sha256"]:
        verdict, report["error"] = Verdict.STALLED, "it had ended before the last fault and proves nothing"
    elif whole:
        verdict, report["error"] = Verdict.RESET, "the checksums differ"
        judgement.wrong_bytes += 1
    else:
        verdict = Verdict.STALLED if "imeout" in str(report.get("error")) else Verdict.RESET
    judgement.tcp.verdicts[verdict] += 1
    silences = [tuple(silence) for side in (mine, theirs) for silence in side.get("silences", ())]
    judgement.silences_ns.append(
        max((end - begin for begin, end in silences if end >= faults[0].at_ns), default=0)
    )
    if verdict is not Verdict.SURVIVED:
        judgement.losses[f"{name}: {verdict.value} ({report.get('error') or 'it ended early'})"] = 1


SCENARIO = Scenario(
    "bulk", "1 GiB over TCP each way through the pair, the primary killed in the middle, bit for bit", play
)
