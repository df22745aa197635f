"""Other backends under thousands of new connections a second: no connection to a backend that lives is lost.

`scale-out` goes from 3 to 10 backends at once; `reload-under-load` reloads one file after the other, with backends that
come and go, other weights, and one that is refused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from hasyncd.lab.acts import NAMES, nodes_of
from hasyncd.lab.backends import (
    MORE,
    configure_backends,
    give_addresses,
    order,
    require_equal_tables,
    rings,
    start_backends,
)
from hasyncd.lab.judge import Judgement
from hasyncd.lab.rounds import delay_figures, gather
from hasyncd.lab.scenarios.kill_under_load import (
    judge_churn,
    openings,
    rate_between,
    start_churn,
    until_proven,
)
from hasyncd.lab.scenarios.scenario import Scenario
from hasyncd.lab.stage import Stage

THREE = (21, 22, MORE[0])
TEN = (21, 22, *MORE)
_PAUSE_S = 1.0
Change = Callable[[Stage], Awaitable[None]]


async def reload(stage: Stage, weights: dict[int, int]) -> None:
    """Both nodes take these backends, the primary first."""
    configure_backends(stage, weights)
    primary = await stage.pair.primary()
    for name in sorted(NAMES, key=lambda name: name != primary):
        await order(stage, name, "reload")
    await require_equal_tables(stage, f"after a reload with {len(weights)} backends")


async def _play(stage: Stage, change: Change) -> Judgement:
    await start_backends(stage, *MORE)
    await reload(stage, dict.fromkeys(THREE, 1))
    await start_churn(stage)
    began = openings(stage)
    stage.crew.order(do="measure")
    await stage.run_for(_PAUSE_S)
    primary = await stage.pair.primary()
    fault = stage.mark_fault(primary, deed="got other backends")
    await change(stage)
    await until_proven(stage, fault)
    shown = await judge_churn(stage, 1, fault)
    judgement = gather([shown])
    rate = rate_between(began, openings(stage))
    shown.rate = rate
    judgement.figures = {
        "connect_rate_asked": stage.load.connect_rate,
        "connect_rate": round(rate, 1),
        "connect_us": delay_figures(shown.delays_us),
        "attempts_failed": dict(shown.attempts_failed),
    }
    stage.require(not shown.attempts_failed, f"attempts to connect failed: {dict(shown.attempts_failed)}")
    stage.require(await stage.pair.primary() == primary, "the primary changed, and nobody had touched it")
    stage.notes.append(f"{rate:,.0f} new connections a second of {stage.load.connect_rate:,.0f} asked for")
    return judgement


async def _scale_out(stage: Stage) -> None:
    stage.progress.step("3 backends become 10")
    await reload(stage, dict.fromkeys(TEN, 1))
    await stage.run_for(2 * _PAUSE_S)
    web = (await rings(await stage.pair.primary()))["web"]
    idle = [row["id"] for row in web["backends"] if not row["flows"]]
    stage.require(not idle, f"backends {idle} got no connection after they came")


async def _reload_often(stage: Stage) -> None:
    for weights in (
        dict.fromkeys(TEN, 1),
        {number: 1 + number % 3 for number in TEN},
        dict.fromkeys(TEN[3:], 2),  # the first three go, and keep what they have
        dict.fromkeys(TEN, 1),
        dict.fromkeys(THREE, 1),
    ):
        stage.progress.step(f"reload: {len(weights)} backends")
        await reload(stage, weights)
        await stage.run_for(_PAUSE_S)
    file = nodes_of(stage).configuration_file(await stage.pair.primary())
    whole = file.read_text()
    file.write_text(whole + "\n[nonsense]\n")
    before = await rings(await stage.pair.primary())
    await order(stage, await stage.pair.primary(), "reload", refused=True)
    file.write_text(whole)
    after = await rings(await stage.pair.primary())
    stage.require(
        all(before[name]["digest"] == after[name]["digest"] for name in before),
        "a file that was refused changed a table",
    )


SCALE_OUT = Scenario(
    "scale-out",
    "3 backends become 10 under 2,000 new connections/s (--rate): none that is established moves or ends",
    lambda stage: _play(stage, _scale_out),
    prepare=give_addresses,
    ours_only=True,
)
RELOAD_UNDER_LOAD = Scenario(
    "reload-under-load",
    "five reloads and a refused one under 2,000 new connections/s: none that is established moves or ends",
    lambda stage: _play(stage, _reload_often),
    prepare=give_addresses,
    ours_only=True,
)
