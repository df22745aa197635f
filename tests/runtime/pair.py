"""Whole nodes in one event loop: real cores, real engines without interfaces, real loopback sockets.

Traffic goes in by `Member.open_flow`; what would have left an interface is what `Engine.take_sent` returns.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from hasyncd._native import INSIDE, OUTSIDE
from hasyncd.balance.services import Services
from hasyncd.config import Settings, load
from hasyncd.core.effects import ReportRole
from hasyncd.core.node import Node
from hasyncd.core.types import NodeView, Role, SyncState
from hasyncd.datapath.packet import build_engine
from hasyncd.runtime.alarms import Alarms
from hasyncd.runtime.balancer import Balancer
from hasyncd.runtime.clock import now_ns
from hasyncd.runtime.daemon import pair_settings
from hasyncd.runtime.journal import Journal
from hasyncd.runtime.orders import Orders
from hasyncd.runtime.pair_keys import PairKeys, load_pair_keys
from hasyncd.runtime.peer_port import PeerPort
from hasyncd.runtime.reload import Reload
from hasyncd.runtime.shell import Shell
from hasyncd.runtime.state_dir import StateDir
from hasyncd.runtime.status import StatusReport
from tests.native.engines import INSIDE_MAC, OUTSIDE_MAC, mac_of
from tests.native.frames import Seen, number, read, udp

PORT = 7077
HOST, SERVER, GATEWAY_ADDRESS = "10.0.1.7", "203.0.113.50", "203.0.113.5"
TICK_S = 0.01
PATIENCE_S = 30.0
_numbers = itertools.count(1)

CONFIGURATION = """
[node]
name = "{name}"
priority = {priority}
state_dir = "{state_dir}"
capacity = {capacity}
[interfaces]
inside = "inside"
outside = "outside"
[[vip]]
address = "10.0.1.1/24"
interface = "inside"
[[vip]]
address = "203.0.113.5/24"
interface = "outside"
[peer]
listen = "{listen}:7077"
address = "{peer}:7077"
{trust}
heartbeat_ms = 20
dead_after_ms = 600
[sync]
commit = "{commit}"
commit_timeout_ms = {commit_timeout_ms}
on_commit_timeout = "{on_commit_timeout}"
log_records = {log_records}
scrub_s = {scrub_s}
[[nat]]
source = ["10.0.1.0/24"]
public = ["203.0.113.5"]
{nat_options}
[[service]]
name = "web"
vip = "203.0.113.5:80"
protocol = "tcp"
backends = [{backends}]
{service_options}
[control]
socket = "{state_dir}.sock"
"""
INSECURE = "insecure = true"
DEFAULTS = {
    "trust": INSECURE,
    "capacity": 16384,
    "commit": "ack",
    "commit_timeout_ms": 50,
    "on_commit_timeout": "fail_open",
    "log_records": 16384,
    "nat_options": "",
    "scrub_s": 30,
    "backends": '{ id = 21, address = "10.0.1.21:8080" }',
    "service_options": "",
}


def loopback_addresses(count: int) -> list[str]:
    """Loopback addresses that no other test on this machine uses now."""
    place = os.getpid() % 60_000
    return [f"127.{1 + place // 250}.{1 + place % 250}.{next(_numbers) % 250 + 1}" for _ in range(count)]


async def until(condition: Callable[[], object], what: str) -> None:
    """Waits for a condition, with much patience."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        await asyncio.sleep(0.005)


class Member:
    """One node of a pair, with the daemon's tick but without its interfaces."""

    def __init__(
        self, directory: Path, name: str, priority: int, listen: str, peer: str, **options: str | int
    ) -> None:
        self.settings = self._configure(directory, name, priority, listen, peer, DEFAULTS | options)
        seed = secrets.token_bytes(16)
        journal = Journal()
        journal.on_role = self._role_changed
        self.balancer = Balancer(self.settings.service, journal.report_event)
        self.engine = build_engine(self.settings, seed, self.balancer.first_tables)
        self._attach()
        self.state = StateDir(self.settings.node.state_dir)
        self.node = Node(
            pair_settings(self.settings), secrets.randbelow(2**63) + 1, self.state.read_generation(), seed,
            now_ns(),
        )  # fmt: skip
        self.stopped = asyncio.Event()
        self.shell = Shell(
            self.settings, self.node, self.engine,
            PeerPort(self.settings.peer.listen, self.settings.peer.address, self._keys()),
            self.state, journal, self.stopped.set, on_members=self.balancer.follow,
        )  # fmt: skip
        self.report = StatusReport(self.settings, self.node, self.engine, self.services)
        self.orders = Orders(self.balancer, self.engine.backend_flow_counts)
        self.reload = Reload(self.settings, self.file, self._apply)
        self._alarms = Alarms(self.shell.journal.report_event)
        self._ticker: asyncio.Task[None] | None = None

    @property
    def services(self) -> Services:
        return self.balancer.services

    def _role_changed(self, report: ReportRole) -> None:
        self.balancer.take_role(leads=report.role is Role.PRIMARY)

    def _apply(self, settings: Settings) -> None:
        self.node.set_config_hash(settings.config_hash())
        self.balancer.replace(settings.service)

    def _configure(
        self, directory: Path, name: str, priority: int, listen: str, peer: str, options: dict[str, str | int]
    ) -> Settings:
        self.file = directory / f"{name}.toml"
        self.file.write_text(
            CONFIGURATION.format(
                name=name, priority=priority, listen=listen, peer=peer, state_dir=directory / name, **options
            )
        )
        return load(self.file)

    def _keys(self) -> PairKeys | None:
        peer = self.settings.peer
        return None if peer.keys is None else load_pair_keys(peer.keys, self.settings.node.name)

    def _attach(self) -> None:
        self.engine.attach(INSIDE, INSIDE_MAC, 1500)
        self.engine.attach(OUTSIDE, OUTSIDE_MAC, 1500)
        self.engine.set_routes([(number("10.0.1.0"), 24, INSIDE, 0), (number("203.0.113.0"), 24, OUTSIDE, 0)])
        self.engine.set_neighbours(
            [(INSIDE, number(address), mac_of(address)) for address in (HOST, "10.0.1.21")]
        )
        self.engine.set_neighbours([(OUTSIDE, number(SERVER), mac_of(SERVER))])

    # --- life -------------------------------------------------------------------------------------

    def start(self) -> None:
        self.shell.start()
        self.balancer.start(self.engine, self.shell)
        self._ticker = asyncio.create_task(self._tick())

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.engine.tick(now_ns())
            self.shell.pump.push()
            self.balancer.look()
            self._alarms.look(self.engine.counters(), primary=self.view.role is Role.PRIMARY)

    def die(self) -> None:
        """What a SIGKILL leaves to the peer: every socket closed, nothing said."""
        if self._ticker is not None:
            self._ticker.cancel()
        self.shell.stop()
        self.engine.disarm()
        self.state.close()

    # --- looking ----------------------------------------------------------------------------------

    @property
    def view(self) -> NodeView:
        return self.node.view(now_ns())

    @property
    def ready(self) -> bool:
        """The other side of a verified full sync is connected, and deltas flow."""
        return self.view.sync.state is SyncState.READY and self.view.peer.state == "connected"

    @property
    def events(self) -> list[str]:
        return [str(event["event"]) for event in self.shell.journal.recent]

    @property
    def table(self) -> tuple[int, int]:
        """(flows, digest)."""
        return self.engine.digest()

    # --- traffic ----------------------------------------------------------------------------------

    def open_flow(self, index: int) -> None:
        """The first packet of the `index`-th flow through NAT arrives, as if the loop had polled it."""
        frame = udp(f"10.0.1.{7 + index // 50_000}", 10_000 + index % 50_000, SERVER, 7000, b"first")
        self.engine.inject(INSIDE, frame, now_ns())
        self.shell.pump.push()

    def left(self) -> list[Seen]:
        """The packets that left since the last look; ARP is passed over."""
        return [read(frame) for _, frame in self.engine.take_sent() if frame[12:14] == b"\x08\0"]


@contextlib.asynccontextmanager
async def members(
    directory: Path, addresses: tuple[str, str, str, str] | None = None, **options: str | int
) -> AsyncIterator[tuple[Member, Member]]:
    """Two nodes, not started; `addresses`: listen and peer of the first, then of the second."""
    if addresses is None:
        first, second = loopback_addresses(2)
        addresses = (first, second, second, first)
    keys = directory / "keys"
    if keys.is_dir():  # made by `make_pair_files`: the pair is secured
        trust = [{"trust": f'keys = "{keys / name}"'} for name in ("gw-a", "gw-b")]
    else:
        trust = [{}, {}]
    a = Member(directory, "gw-a", 200, *addresses[:2], **trust[0] | options)
    b = Member(directory, "gw-b", 100, *addresses[2:], **trust[1] | options)
    try:
        yield a, b
    finally:
        a.die()
        b.die()


@contextlib.asynccontextmanager
async def synced_pair(
    directory: Path, addresses: tuple[str, str, str, str] | None = None, **options: str | int
) -> AsyncIterator[tuple[Member, Member]]:
    """A primary and its ready backup."""
    async with members(directory, addresses, **options) as (a, b):
        a.start()
        b.start()
        await until(lambda: a.ready and b.ready and a.view.commit_held, "the pair is ready")
        assert (a.node.role, b.node.role) == (Role.PRIMARY, Role.BACKUP)
        a.left()
        yield a, b
