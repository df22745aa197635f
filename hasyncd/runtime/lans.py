"""The two interfaces of the data path, as the core hears of them: proto/pair.md §4e.

One that is down makes the node unfit; one that is gone, or both down, is a fault: then it cannot work at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from hasyncd.core.fitness import LAN_RISE, LANS
from hasyncd.datapath.netlink import LinkState

LAN_INTERVAL_S: Final = 0.1
"""Between two samples; a change is told at once."""

_WORDS: Final = {LinkState.UP: "up", LinkState.DOWN: "down", LinkState.AWAY: "gone"}


class Lans:
    """Call `changed` with what netlink says, `start` once the core runs, and `sample` each LAN_INTERVAL_S."""

    def __init__(
        self,
        names: tuple[str, str],
        on_sample: Callable[[str, bool, str], None],
        on_fault: Callable[[str | None], None],
    ) -> None:
        """`on_sample` gets (track, good, why); `on_fault` why the node cannot work, or None: it can again."""
        self._names = names
        self._on_sample, self._on_fault = on_sample, on_fault
        self._states = [LinkState.UP, LinkState.UP]
        self._samples_to_tell = [0, 0]
        self._fault: str | None = None
        self._started = False

    def start(self) -> None:
        """Tells what is not as it should be."""
        self._started = True
        for side, state in enumerate(self._states):
            if state is not LinkState.UP:
                self._tell(side)
        self._judge()

    def changed(self, side: int, state: LinkState) -> None:
        self._states[side] = state
        # A LAN that stays up counts as up again after so many samples; after that there is nothing to tell.
        self._samples_to_tell[side] = LAN_RISE
        if self._started:
            self._tell(side)
            self._judge()

    def sample(self) -> None:
        for side in range(len(self._states)):
            if self._samples_to_tell[side] > 0:
                self._tell(side)

    def _tell(self, side: int) -> None:
        state = self._states[side]
        if state is LinkState.UP:
            self._samples_to_tell[side] -= 1
        self._on_sample(LANS[side], state is LinkState.UP, f"{self._names[side]} is {_WORDS[state]}")

    def _judge(self) -> None:
        fault = None
        if LinkState.UP not in self._states:
            fault = f"neither {self._names[0]} nor {self._names[1]} is up"
        for name, state in zip(self._names, self._states, strict=True):
            if state is LinkState.AWAY:
                fault = f"interface {name} is gone"
        if fault != self._fault:
            self._fault = fault
            self._on_fault(fault)
