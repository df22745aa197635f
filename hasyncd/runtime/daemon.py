"""`hasyncd run`: one node from its start to its end."""

from __future__ import annotations

import asyncio
import datetime
import gc
import os
import secrets
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog
import uvloop

from hasyncd.addresses import for_engine
from hasyncd.config import Settings
from hasyncd.core.effects import ReportRole
from hasyncd.core.messages import FEATURE_IPV6, PROTOCOL_MIN
from hasyncd.core.node import Node
from hasyncd.core.types import MILLISECOND_NS, PairSettings, Role, TrackSettings
from hasyncd.datapath.interfaces import Interface, InterfaceError, find_interface
from hasyncd.datapath.kernel_drop import KernelDropError
from hasyncd.datapath.kernel_tables import NeighbourKey
from hasyncd.datapath.netlink import LinkState, Netlink
from hasyncd.datapath.packet import (
    Engine,
    build_engine,
    owned_networks,
    start_memory_keeper,
)
from hasyncd.datapath.tc import TcUnavailable
from hasyncd.runtime import logs
from hasyncd.runtime.alarms import Alarms
from hasyncd.runtime.balancer import Balancer
from hasyncd.runtime.claims import Claims
from hasyncd.runtime.clock import now_ns
from hasyncd.runtime.control_server import ControlServer, SocketTaken, clear_socket
from hasyncd.runtime.journal import Journal
from hasyncd.runtime.kernel_guard import KernelGuard
from hasyncd.runtime.lan_routes import lan_routes
from hasyncd.runtime.lans import LAN_INTERVAL_S, Lans
from hasyncd.runtime.last_word import last_word_file
from hasyncd.runtime.loop_lag import LoopLag
from hasyncd.runtime.mapping_log import WRITE_EVERY_S, MappingLog
from hasyncd.runtime.metrics_server import MetricsError, make_metrics
from hasyncd.runtime.orders import Orders
from hasyncd.runtime.packet_flow import PacketFlow
from hasyncd.runtime.pair_keys import PairKeys, PairKeysError, load_pair_keys
from hasyncd.runtime.peer_port import PeerPort, PeerPortError
from hasyncd.runtime.reload import Reload
from hasyncd.runtime.route_driver import RouteDriver
from hasyncd.runtime.sd_notify import ServiceNotifier
from hasyncd.runtime.shell import Shell
from hasyncd.runtime.state_dir import StateDir, StateDirError
from hasyncd.runtime.status import StatusReport
from hasyncd.runtime.tracking import Tracking
from hasyncd.runtime.verbs import make_handlers

if TYPE_CHECKING:
    from hasyncd.runtime.witness import EtcdWitness

TICK_S: Final = 0.01
BALANCER_INTERVAL_S: Final = 0.2
REFRESH_NEIGHBOURS_S: Final = 10.0
STOP_TIMEOUT_S: Final = 3.0
_EXPIRES_SOON_DAYS: Final = 30
_AUTOGROUP: Final = Path("/proc/self/autogroup")

_log = structlog.get_logger("hasyncd")


def main(settings: Settings, file: Path) -> int:
    """Runs until SIGTERM or SIGINT; `file` is where the settings came from. 0: a clean end; 2: the machine does not fit
    the configuration."""
    logs.configure()
    _keep_memory()
    try:
        uvloop.run(_run(settings, file))
    except (
        InterfaceError, KernelDropError, MetricsError, PairKeysError, PeerPortError, StateDirError, SocketTaken,
        TcUnavailable,
    ) as error:  # fmt: skip
        return _refuse(str(error))
    except OSError as error:
        return _refuse(
            f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)
        )
    return 0


def _refuse(reason: str) -> int:
    sys.stderr.writelines(f"hasyncd: {line}\n" for line in reason.splitlines())
    return 2


async def _run(settings: Settings, file: Path) -> None:
    keys = _load_keys(settings)
    _raise_priority(settings.node.nice)
    with StateDir(settings.node.state_dir) as state:
        inside = find_interface(settings.interfaces.inside)
        outside = find_interface(settings.interfaces.outside)
        _check_sides(inside, outside)
        # Before anything is touched that another daemon at this socket may live by.
        clear_socket(settings.control.socket)
        with (
            KernelGuard(settings, (inside, outside)) as guard,
            last_word_file(settings.control.last_word_path) as log_file,
        ):
            await Daemon(settings, file, state, keys, inside, outside, guard, log_file).run()


def _load_keys(settings: Settings) -> PairKeys | None:
    """None: `insecure = true`. Raises PairKeysError."""
    if settings.peer.keys is None:
        return None
    keys = load_pair_keys(settings.peer.keys, settings.node.name, settings.peer.key_log)
    if settings.peer.key_log is not None:
        _log.warning(
            "key_log", detail=f"who can read {settings.peer.key_log} can read the stream to the peer"
        )
    days = (keys.expires - datetime.datetime.now(datetime.UTC)).days
    if days < _EXPIRES_SOON_DAYS:
        _log.warning("keys_expire", detail=f"on {keys.expires:%Y-%m-%d}, in {days} days: hasyncd keygen")
    return keys


def _check_sides(inside: Interface, outside: Interface) -> None:
    if inside.index == outside.index:
        raise InterfaceError(f"interfaces.inside and interfaces.outside are both {inside.name}")


def _keep_memory() -> None:
    """The peer hears of our death at once, and not after our tables are freed."""
    try:
        start_memory_keeper()
    except OSError as error:
        _log.info("no_memory_keeper", detail=f"a kill is noticed some milliseconds later: {error.strerror}")


def _raise_priority(nice: int) -> None:
    """A heartbeat that leaves late looks like a death."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
        # With autogrouping (sched(7)) a nice value counts within the session only; the session's own counts
        # against the others. Somebody else's session is not ours to change.
        if os.getsid(0) == os.getpid() and _AUTOGROUP.exists():
            _AUTOGROUP.write_text(str(nice))
    except OSError as error:
        _log.info("priority_kept", detail=f"node.nice is not applied: {error.strerror}")


def pair_settings(settings: Settings) -> PairSettings:
    """What the core has to know."""
    return PairSettings(
        node=settings.node.name,
        priority=settings.node.priority,
        heartbeat_ns=settings.peer.heartbeat_ms * MILLISECOND_NS,
        dead_after_ns=settings.peer.dead_after_ms * MILLISECOND_NS,
        prefer=settings.peer.prefer,
        sync_enabled=settings.sync.enabled,
        capacity=settings.node.capacity,
        config_hash=settings.config_hash(),
        protocols=(PROTOCOL_MIN, settings.peer.protocol),
        features_needed=FEATURE_IPV6 if settings.speaks_ipv6 else 0,
        paths=settings.peer.paths,
        tracks=tuple(
            TrackSettings(track.name, track.kind, track.weight, track.rise, track.fall)
            for track in settings.track
        ),
        fitness_margin=settings.fitness.margin,
        hold_down_ns=settings.fitness.hold_down_ms * MILLISECOND_NS,
        takes_owned_vips=settings.peer.on_vip_owned == "take",
        wait_ns=settings.peer.wait_ms * MILLISECOND_NS,
        authenticated=settings.peer.keys is not None,
        witness=settings.peer.witness is not None,
    )


def make_witness(settings: Settings) -> EtcdWitness | None:
    """None where none is configured. Raises PairKeysError."""
    witness, key = settings.peer.witness, settings.witness_key
    if witness is None or key is None:
        return None
    from hasyncd.runtime.witness import EtcdWitness  # an HTTP client, for those who need one

    return EtcdWitness(witness, key)


def _make_mappings(settings: Settings, engine: Engine, journal: Journal) -> MappingLog | None:
    """None where none is configured."""
    if settings.log.mappings is None:
        return None
    return MappingLog(
        settings.log.mappings, engine, settings.node.name, journal.report_event,
        destinations=settings.log.log_destinations,
    )  # fmt: skip


class Daemon:
    """The parts of a running node and the timers between them."""

    def __init__(
        self,
        settings: Settings,
        file: Path,
        state: StateDir,
        keys: PairKeys | None,
        inside: Interface,
        outside: Interface,
        guard: KernelGuard,
        log_file: int,
    ) -> None:
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        journal = Journal()
        self._balancer = Balancer(settings.service, journal.report_event)
        seed = secrets.token_bytes(16)
        self._engine: Engine = build_engine(settings, seed, self._balancer.first_tables, log_file)
        boot_id = secrets.randbelow(2**64 - 1) + 1
        node = Node(pair_settings(settings), boot_id, state.read_generation(), seed, now_ns())
        self._node = node
        self._witness = make_witness(settings)
        self._routes = RouteDriver(settings.routes, journal.report_event) if settings.routes else None
        self._shell = Shell(
            settings, node, self._engine,
            PeerPort(settings.peer.listen, settings.peer.address, keys, lan_routes(settings, inside, outside)),
            state, journal, self._stopped.set, self._routes, self._witness,
            self._balancer.follow,
        )  # fmt: skip
        self._packets = PacketFlow(settings, self._engine, inside, outside)
        self._guard = guard
        self._report = StatusReport(
            settings, node, self._engine, self._balancer.services, self._routes, self._packets
        )
        self._alarms = Alarms(journal.report_event)
        self._reload = Reload(settings, file, self._apply)
        orders = Orders(self._balancer, self._engine.backend_flow_counts)
        handlers = make_handlers(
            settings, self._shell, self._report, self._balancer.services, orders, self._reload
        )
        self._control = ControlServer(settings.control.socket, handlers)
        self._loop_lag = LoopLag(round(TICK_S * 1e9))
        self._metrics = make_metrics(
            settings, self._shell, self._report, self._balancer.services, self._loop_lag
        )
        self._netlink = Netlink(
            inside,
            outside,
            on_routes=self._engine.set_routes,
            on_neighbours=self._engine.set_neighbours,
            on_link=self._link_changed,
            on_addresses=self._addresses_changed,
        )
        self._mappings = _make_mappings(settings, self._engine, journal)
        journal.on_role = self._role_changed
        self._balancer.on_backends = self._backends_changed
        self._lans = Lans((inside.name, outside.name), self._shell.receive_sample, self._shell.report_links)
        self._tracking = Tracking(
            settings.track, (inside, outside), lambda: self._netlink.routes, self._shell.receive_sample
        )
        self._started = self._stop_asked = False
        self._claims = Claims(owned_networks(settings), journal.report_event)
        self._notifier = ServiceNotifier()

    async def run(self) -> None:
        """Starts everything, waits for the order to stop, ends everything."""
        tickers: list[asyncio.Task[None]] = []
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._loop.add_signal_handler(number, self._stop)
            self._loop.add_signal_handler(signal.SIGHUP, self._reload.on_hangup)
            if self._metrics is not None:
                await self._metrics.start()
            await self._netlink.start()
            self._netlink.resolve(self._known_neighbours())
            self._packets.start(self._shell.pump)
            await self._control.start()
            # What was made so far lives until the end: the collector need not look at it again.
            gc.freeze()
            self._shell.start()
            self._balancer.start(self._engine, self._shell)
            self._started = True
            self._lans.start()
            self._tracking.start()
            tickers = self._start_tickers()
            self._notifier.ready()
            _log.info(
                "started", node=self._settings.node.name, generation=self._node.generation,
                engine=self._packets.engine, engine_reason=self._packets.reason,
            )  # fmt: skip
            if self._settings.peer.insecure:
                _log.warning("insecure", detail="the peer channel is neither authenticated nor encrypted")
            await self._stopped.wait()
            for ticker in tickers:
                if ticker.done():
                    ticker.result()  # raises what ended it
        finally:
            self._notifier.stopping()
            for ticker in tickers:
                ticker.cancel()
            await asyncio.gather(*tickers, return_exceptions=True)
            self._engine.disarm()
            if self._mappings:
                await self._mappings.close()
            self._packets.stop()
            self._shell.stop()
            if self._routes is not None:
                self._routes.close()
            if self._witness is not None:
                await self._witness.close()
            await self._tracking.stop()
            await self._balancer.stop()
            await self._control.stop()
            if self._metrics is not None:
                await self._metrics.stop()
            self._netlink.close()

    # --- signals and timers -----------------------------------------------------------------------

    def _stop(self) -> None:
        """SIGTERM hands over; a second one, or three seconds without an end, ends at once."""
        if self._stop_asked or not self._started:
            self._stopped.set()
            return
        self._stop_asked = True
        self._loop.call_later(STOP_TIMEOUT_S, self._stopped.set)
        self._shell.command_stop()

    def _role_changed(self, report: ReportRole) -> None:
        leads = report.role is Role.PRIMARY
        if self._mappings and leads:
            self._mappings.tell_promotion(report.generation)
        self._balancer.take_role(leads=leads)

    def _apply(self, settings: Settings) -> None:
        """A reloaded file, of which only the services are otherwise."""
        self._node.set_config_hash(settings.config_hash())
        self._balancer.replace(settings.service)

    def _backends_changed(self) -> None:
        addresses = self._balancer.addresses()
        self._guard.keep_backends(addresses)
        self._packets.keep_backends(addresses)
        self._netlink.resolve(self._known_neighbours())

    def _start_tickers(self) -> list[asyncio.Task[None]]:
        actions: list[tuple[float, Callable[[], None]]] = [
            (TICK_S, self._tick),
            (LAN_INTERVAL_S, self._lans.sample),
            (BALANCER_INTERVAL_S, self._balancer.look),
            (1.0, self._look_around),
            (REFRESH_NEIGHBOURS_S, self._refresh_neighbours),
        ]
        if self._mappings:
            actions.append((WRITE_EVERY_S, self._mappings.write))
        if self._notifier.watchdog_interval_s is not None:
            actions.append((self._notifier.watchdog_interval_s, self._watchdog))
        tickers = [asyncio.create_task(self._every(interval_s, action)) for interval_s, action in actions]
        for ticker in tickers:
            # They never end by themselves. Without one of them the node would live on half dead: it ends.
            ticker.add_done_callback(lambda _: self._stopped.set())
        return tickers

    async def _every(self, interval_s: float, action: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(interval_s)
            action()

    def _tick(self) -> None:
        self._loop_lag.wake(now_ns())
        if not self._shell.alive:
            raise RuntimeError("the core's timer has died")
        self._engine.tick(now_ns())
        self._shell.pump.push()
        wanted = self._engine.wanted_neighbours()
        if wanted:
            self._netlink.resolve(wanted)
        self._loop_lag.sleep(now_ns())

    def _look_around(self) -> None:
        self._report.sample()
        self._balancer.compare(self._node.view(now_ns()).peer.tables_match)
        self._alarms.look(self._engine.counters(), primary=self._node.role is Role.PRIMARY)

    def _refresh_neighbours(self) -> None:
        self._claims.look()
        self._netlink.refresh(self._engine.used_neighbours())

    def _watchdog(self) -> None:
        self._notifier.watchdog()

    # --- what the machine says ----------------------------------------------------------------------

    def _known_neighbours(self) -> list[NeighbourKey]:
        """Whom the first packet after a takeover will need: backends inside, and every route's gateway."""
        backends: list[NeighbourKey] = [(0, for_engine(address)) for address in self._balancer.addresses()]
        gateways: list[NeighbourKey] = [
            (side, gateway) for _, _, side, gateway in self._netlink.routes if gateway
        ]
        return list(dict.fromkeys(backends + gateways))

    def _addresses_changed(self) -> None:
        self._guard.refresh()
        self._packets.refresh_addresses()

    def _link_changed(self, side: int, state: LinkState) -> None:
        if state is LinkState.UP:
            self._packets.watch_again()
        self._lans.changed(side, state)
