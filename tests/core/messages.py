"""Messages and settings as tests like them: everything has a value, and a test names what it cares for."""

from __future__ import annotations

from dataclasses import replace

from hasyncd.core.messages import PROTOCOL, Heartbeat, Hello
from hasyncd.core.types import MILLISECOND_NS, PairSettings, Role

CONFIG_HASH = b"confhash"
SEED = b"0123456789abcdef"

SETTINGS = PairSettings(
    node="gw-b",
    priority=100,
    heartbeat_ns=50 * MILLISECOND_NS,
    dead_after_ns=150 * MILLISECOND_NS,
    prefer="availability",
    sync_enabled=True,
    capacity=1024,
    config_hash=CONFIG_HASH,
)

_BEAT = Heartbeat(
    protocol=PROTOCOL, node="gw-a", boot_id=0xA, counter=1, role=Role.PRIMARY, generation=1, priority=200,
    leaving=False, ready=False, solo=False, sent_ns=0, echo_boot_id=0, echo_sent_ns=0, heard_ms=0,
    ack_boot_id=0, ack_sequence=0, head_sequence=0, flow_count=0, digest_sequence=0, digest=0,
    config_hash=CONFIG_HASH,
)  # fmt: skip

_HELLO = Hello(1, "gw-a", 0xA, 1, CONFIG_HASH, 1024, SEED, 1)


def a_beat(**fields: object) -> Heartbeat:
    return replace(_BEAT, **fields)  # type: ignore[arg-type]


def a_hello(**fields: object) -> Hello:
    return replace(_HELLO, **fields)  # type: ignore[arg-type]


def ms(milliseconds: float) -> int:
    return int(milliseconds * MILLISECOND_NS)
