"""What drills of the balancer have in common: backends that come, go and die, and what both nodes say of them."""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hasyncd.lab import plan
from hasyncd.lab.acts import NAMES, Roll, nodes_of
from hasyncd.lab.control import Unreachable, ask
from hasyncd.lab.crew import Member
from hasyncd.lab.namespaces import LabError, run_ip
from hasyncd.lab.pair import Pair
from hasyncd.lab.placement import Closed, Death
from hasyncd.lab.stage import Fault, Stage
from hasyncd.lab.topology import Topology
from hasyncd.lab.traffic.process import now_ns

SERVICES = ("web", "web6", "names", "names6", "bulk", "bulk6")
MORE = tuple(range(31, 39))
"""Numbers of further backends: addresses in the namespaces of the two that are always there, processes of their own."""
_FOREVER_NS = 1 << 62
_PATIENCE_S = 10.0
_HEALTH = f"health = {{ interval_ms = 100, rise = 2, fall = 2, port = {plan.BACKEND_TCP_PORT} }}\n"
HEALTH_EDITS = tuple((f'name = "{name}"\n', f'name = "{name}"\n{_HEALTH}') for name in SERVICES)
"""Backends are checked, each ten times a second."""
_LIST = re.compile(r"^backends = \[\n.*?^\]$", re.DOTALL | re.MULTILINE)
_PORT = re.compile(r':(\d+)"')


# --- servers -----------------------------------------------------------------------------------------------


def host_of(number: int) -> plan.Host:
    """The namespace in which a backend lives, with its addresses."""
    host = next((host for host in plan.BACKENDS if host.number == number), None)
    if host is not None:
        return host
    room = plan.BACKENDS[number % len(plan.BACKENDS)]
    return plan.Host(room.name, room.side, (f"10.0.1.{number}",), number)


def give_addresses(topology: Topology, _: Pair) -> None:
    """A scenario's `prepare`: addresses for further backends. Raises LabError."""
    for number in MORE:
        host = host_of(number)
        commands = [f"addr add {host.addresses[0]}/{plan.PREFIX_LENGTH} dev eth0"]
        commands.append(f"addr add {host.addresses6[0]}/{plan.PREFIX_LENGTH6} dev eth0 nodad")
        run_ip(commands, topology.namespace(host.name))


async def start_backends(stage: Stage, *numbers: int) -> None:
    """Starts the servers of these backends and waits until they listen."""
    started = [stage.crew.recruit_server(host_of(number)) for number in numbers]
    for server in started:
        await stage.crew.wait_for(server, lambda report: bool(report.get("ready")))


def kill_backend(stage: Stage, number: int) -> Fault:
    """SIGKILL: its kernel resets its connections, and refuses new ones."""
    server = _server(stage, number)
    fault = stage.mark_fault(f"backend {number}", deed="was killed")
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()
    return fault


def _server(stage: Stage, number: int) -> Member:
    return next(server for server in reversed(stage.crew.servers) if server.number == number)


# --- what the nodes say ------------------------------------------------------------------------------------


async def order(stage: Stage, node: str, verb: str, *, refused: bool = False, **arguments: object) -> None:
    """An operator's order; that it is taken (or `refused`) is a requirement."""
    try:
        _, code, message = await ask(plan.RUN_DIR / f"{node}.sock", verb, _PATIENCE_S, **arguments)
    except Unreachable as error:
        raise LabError(f"{node} did not answer: {error}") from error
    stage.require(
        (code != 0) is refused, f"{node} {'took' if refused else 'refused'} {verb} {arguments}: {message}"
    )


async def rings(node: str) -> dict[str, dict[str, Any]]:
    """What `hasyncd ring` says of every service. Raises LabError."""
    try:
        items, code, message = await ask(plan.RUN_DIR / f"{node}.sock", "ring")
    except Unreachable as error:
        raise LabError(f"{node} did not answer: {error}") from error
    if code != 0:
        raise LabError(f"{node} does not tell its rings: {message}")
    return {item["service"]: item for item in items}


async def until_state(stage: Stage, number: int, state: str, timeout_s: float = 20) -> int:
    """Waits until both nodes say this of a backend, in all services; the moment, in ns. A requirement."""

    async def said() -> bool:
        for name in NAMES:
            status = await stage.pair.status(name)
            services = (status or {}).get("services") or []
            rows = [row for service in services for row in service["backends"] if row["id"] == number]
            if not rows or any(row["state"] != state for row in rows):
                return False
        return True

    stage.progress.step(f"both nodes learn that backend {number} is {state}")
    await stage.require_soon(said, f"not both nodes said that backend {number} is {state}", timeout_s)
    return now_ns()


async def require_equal_tables(stage: Stage, when: str) -> None:
    """Both nodes have the same table of every service, and the same number for it."""

    async def equal() -> bool:
        there, here = [await rings(name) for name in NAMES]
        return {name: (ring["digest"], ring["ring_generation"]) for name, ring in there.items()} == {
            name: (ring["digest"], ring["ring_generation"]) for name, ring in here.items()
        }

    await stage.require_soon(equal, f"{when}, the nodes had different tables")


async def require_no_flap(stage: Stage, before: Roll, survivor: str, seconds: float = 3.0) -> None:
    """After a takeover its tables stay as they are: no backend changes, no generation, no slow start."""
    then = await rings(survivor)
    await stage.run_for(seconds)
    now = await rings(survivor)
    for name, ring in then.items():
        stage.require(
            (ring["digest"], ring["ring_generation"]) == (now[name]["digest"], now[name]["ring_generation"]),
            f"after the takeover the table of {name} went from generation {ring['ring_generation']} to "
            f"{now[name]['ring_generation']}",
        )
    for event in ("backend_up", "backend_down"):
        told = before.events.details(survivor, event)
        stage.require(not told, f"after the takeover {survivor} said {event}: {'; '.join(told[:3])}")


# --- the pictures of the report ----------------------------------------------------------------------------


@dataclass(slots=True)
class RingChange:
    """What a change of backends did to the services: their rings before and after it, from the primary."""

    what: str
    before: dict[str, dict[str, Any]]
    after: dict[str, dict[str, Any]] = field(default_factory=dict)

    def to_json(self) -> list[dict[str, Any]]:
        """An element for each service that had any flow, or another share for somebody."""
        return [
            {"service": name, "what": self.what, "before": _rows(ring), "after": _rows(self.after[name])}
            for name, ring in self.before.items()
            if name in self.after
            and (_rows(ring) != _rows(self.after[name]))
            and _any_flow(ring, self.after[name])
        ]


def _rows(ring: dict[str, Any]) -> list[dict[str, Any]]:
    return [{key: row[key] for key in ("id", "share", "flows")} for row in ring["backends"]]


def _any_flow(*rings: dict[str, Any]) -> bool:
    return any(row["flows"] for ring in rings for row in ring["backends"])


async def begin_change(stage: Stage, what: str) -> RingChange:
    """Before a change of backends; `end_change` draws what became of it."""
    return RingChange(what, await rings(await stage.pair.primary()))


async def end_change(stage: Stage, change: RingChange) -> None:
    """After it."""
    change.after = await rings(await stage.pair.primary())
    stage.ring_changes += change.to_json()


# --- the configuration -------------------------------------------------------------------------------------


def with_backends(text: str, weights: dict[int, int]) -> str:
    """A node's file with these backends (number -> weight) in every service."""

    def rewrite(found: re.Match[str]) -> str:
        port = _PORT.search(found[0])
        six = "[" in found[0].partition('"')[2]
        if port is None:
            raise LabError(f"no backends are listed in {found[0]!r}")
        lines = []
        for number, weight in sorted(weights.items()):
            host = host_of(number)
            address = f"[{host.addresses6[0]}]" if six else host.addresses[0]
            lines.append(f'  {{ id = {number}, address = "{address}:{port[1]}", weight = {weight} }},\n')
        return f"backends = [\n{''.join(lines)}]"

    return _LIST.sub(rewrite, text)


def configure_backends(stage: Stage, weights: dict[int, int]) -> None:
    """Writes both nodes' files; they are read at a reload."""
    nodes = nodes_of(stage)
    for name in NAMES:
        file: Path = nodes.configuration_file(name)
        file.write_text(with_backends(file.read_text(), weights))


def note_death(stage: Stage, number: int, died_ns: int, known_ns: int) -> None:
    """Its flows are not judged, and until it returns nobody may be led to it."""
    stage.placement.deaths.append(Death(number, died_ns, known_ns))


def close_to_new_flows(
    stage: Stage, number: int, since_ns: int, why: str, until_ns: int = _FOREVER_NS
) -> None:
    """Nobody may be led to it from then on."""
    stage.placement.closed.append(Closed(number, since_ns, until_ns, why))
