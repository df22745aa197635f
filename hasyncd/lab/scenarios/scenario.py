"""What a scenario is: a name, a purpose, and an act played on a stage."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from hasyncd.lab.judge import Judgement
from hasyncd.lab.pair import Pair
from hasyncd.lab.stage import Stage
from hasyncd.lab.topology import Topology


@dataclass(frozen=True, slots=True)
class Scenario:
    """One drill."""

    name: str
    purpose: str
    """One line for `--list`."""
    play: Callable[[Stage], Awaitable[Judgement | None]]
    """Plays it; returns a judgement of its own making, or None where the flows' records are to be judged."""
    datagrams_may_be_lost: bool = True
    """Whether datagrams that were sent into the fault may be missing."""
    prepare: Callable[[Topology, Pair], None] | None = None
    """Called when the lab stands and no node was started. May raise LabError."""
    deed: str = "was killed"
    """What the sentence of the verdict says of the node."""
    starts_old: bool = False
    """Both nodes begin as what they are upgraded from; of other systems there is nothing to upgrade."""
