"""What the checks of a simulated machine say, process or no process: its LANs, and what it tracks beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hasyncd.core.types import MILLISECOND_NS, TrackSettings

if TYPE_CHECKING:
    from tests.sim.shell import Shell
    from tests.sim.simulator import World

INTERVAL_NS = 100 * MILLISECOND_NS
TRACKS = (
    TrackSettings("gateway", "gateway", 3, rise=3, fall=2),
    TrackSettings("disk", "command", 1, rise=1, fall=1),
)
"""Without its gateway a node has a fitness of 250, without its disk 750."""


class Machine:
    """Its checks go on from the first that fails; until then nothing is to be told."""

    def __init__(self, world: World, shell: Shell) -> None:
        self._world, self._shell = world, shell
        self._checks: dict[str, bool] = {}
        self._checking = False

    def set(self, name: str, good: bool) -> None:
        """From now on the check of `name` ends so; a LAN's is told at once."""
        if self._checks.get(name, True) is good:
            return
        self._checks[name] = good
        self._world.say("world", f"{name} of {self._shell.name} is {'well' if good else 'unwell'}")
        self._tell(name)
        if not self._checking:
            self._checking = True
            self._world.at(INTERVAL_NS, self._check)

    def fails(self, name: str) -> bool:
        return not self._checks.get(name, True)

    def mend(self) -> None:
        for name in list(self._checks):
            self.set(name, True)

    def _check(self) -> None:
        for name in self._checks:
            self._tell(name)
        self._world.at(INTERVAL_NS, self._check)

    def _tell(self, name: str) -> None:
        shell, good = self._shell, self._checks[name]
        shell.input(lambda now: shell.node.receive_sample(name, good, "" if good else "unwell", now))
