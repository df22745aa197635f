"""What the engine has heard about the VIPs, in the core's words."""

from __future__ import annotations

from typing import Final

from hasyncd.addresses import text_of
from hasyncd.core.types import VipState
from hasyncd.datapath.packet import SIDES, Engine

_NAMES: Final = {side: name for name, side in SIDES.items()}


def vip_states(engine: Engine) -> tuple[VipState, ...]:
    """One a VIP; answers `LookAtVips`."""
    return tuple(
        VipState(text_of(address), _NAMES[side], mac.hex(":") if claimed_ns else "", claimed_ns, seen_ns)
        for side, address, mac, claimed_ns, seen_ns in engine.vip_states()
    )
