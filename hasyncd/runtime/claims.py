"""Whether the kernel has come to hold an address that is the pair's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hasyncd.addresses import Address, Network
from hasyncd.datapath.interfaces import addresses_in_use


class Claims:
    """The start refuses an owned address on a kernel interface; what is configured later can only be said: the kernel
    would answer for it too, and ports of it that NAT gives out may be those of this host's sockets."""

    def __init__(
        self,
        owned: Sequence[Network],
        report: Callable[[str, str], None],
        in_use: Callable[[Sequence[Network]], list[Address]] = addresses_in_use,
    ) -> None:
        self._owned = owned
        self._report = report
        self._in_use = in_use
        self._claimed: list[Address] = []

    def look(self) -> None:
        """Reports what is claimed whenever that changes; said again when it is over and comes back."""
        claimed = self._in_use(self._owned)
        if claimed and claimed != self._claimed:
            names = ", ".join(str(address) for address in claimed)
            self._report("address_claimed", f"{names}: on a kernel interface, which answers for it too")
        self._claimed = claimed
