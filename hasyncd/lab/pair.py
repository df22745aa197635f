"""What a drill needs of a pair of gateways, whoever they are."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable


class Pair(Protocol):
    """Two gateways in the namespaces `gw-a` and `gw-b`."""

    engine: str
    """What `--engine` means for this pair."""
    system: str
    """What `--system` names."""
    variant: str | None
    """What tells two pairs of one system apart, in words; None where there is one only."""
    remarks: list[str]
    """What a reader of the results has to know of this pair."""

    async def start(self) -> None:
        """Starts both and waits until they are ready. Raises LabError."""

    async def wait_ready(self) -> None:
        """Waits until one is primary and the other could take over. Raises LabError."""

    async def primary(self) -> str:
        """The name of the gateway that owns the addresses. Raises LabError when there is not exactly one."""

    async def status(self, name: str) -> dict[str, Any] | None:
        """What a gateway says of itself, with the keys of `hasyncd status --json`; None when it does not answer."""

    def kill(self, name: str) -> int:
        """Ends a gateway at once, without a word; the moment, in ns of CLOCK_BOOTTIME."""

    def cut_off(self, name: str) -> int:
        """The node dies: its processes stop, all its links are cut, and nobody hears them end; the last cut, in ns.

        Raises LabError.
        """

    async def last_word(self, name: str) -> list[dict[str, Any]] | None:
        """What a killed gateway's log still says, line by line; None: this system keeps none. Raises LabError."""

    async def restart(self, name: str) -> None:
        """Starts a killed gateway again. Raises LabError."""

    async def switch_over(self) -> int:
        """The planned change of roles; the moment when it was asked for. Raises LabError when it is refused."""

    async def stop(self) -> None:
        """Ends what still runs; never raises."""

    def messages(self) -> str:
        """The last words of both, for a report of a failure."""


@runtime_checkable
class Upgradable(Pair, Protocol):
    """A pair that began with an older program, or an older version of the protocol, and can be brought up to date."""

    def terminate(self, name: str) -> int:
        """SIGTERM: a gateway is to end in good order; the moment, in ns of CLOCK_BOOTTIME."""

    async def upgrade(self, name: str) -> int:
        """Waits for the end of a gateway's program, which `restart` will start as the new one; its exit code."""


def other(name: str) -> str:
    """The peer of a gateway."""
    return "gw-b" if name == "gw-a" else "gw-a"
