"""What a scenario is: a name, a purpose, and an act played on a stage."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from hasyncd.lab.crew import Load
from hasyncd.lab.judge import Judgement
from hasyncd.lab.pair import Pair
from hasyncd.lab.stage import Stage
from hasyncd.lab.topology import Topology

Edits = tuple[tuple[str, str], ...]
"""(words, other words) for both nodes' configuration files; each must be found there."""


def _as_asked(load: Load) -> Load:
    return load


def _no_edits(load: Load) -> Edits:
    return ()


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
    losses_within_certificate: bool = False
    """Whether flows may be lost as far as the last promotion's certificate knows them to be missing."""
    old_flows_may_be_lost: bool = False
    """Whether flows that were opened before the last fault may be lost: nobody has kept them."""
    ours_only: bool = False
    """Whether it looks into nodes of ours, so that no other system can play it."""
    load: Callable[[Load], Load] = _as_asked
    """The traffic it needs, from what was asked for."""
    edits: Callable[[Load], Edits] = _no_edits
    """How the nodes are configured for it."""
