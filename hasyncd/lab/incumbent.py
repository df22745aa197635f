"""The pair that people run today: Debian's keepalived, conntrackd (FTFW) and nftables, in the same lab, judged alike.

What dies here is the node. keepalived's data path is the kernel, which goes on when the daemons are killed: the VIPs
then stay on the dead daemon's node and appear on the other one too. So a kill stops the daemons and cuts all links of
their node, which is what a failed machine does, and costs the incumbent nothing that it would not pay there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from hasyncd.lab import namespaces, plan
from hasyncd.lab.incumbent_files import (
    STOCK_SCRIPT,
    IncumbentOptions,
    Places,
    conntrackd_configuration,
    keepalived_configuration,
    rules,
    stock_script,
    sysctls,
)
from hasyncd.lab.namespaces import LabError, spawn
from hasyncd.lab.pair import other
from hasyncd.lab.topology import Topology
from hasyncd.lab.traffic.process import now_ns

PACKAGES = {
    "keepalived": "keepalived",
    "conntrackd": "conntrackd",
    "conntrack": "conntrack",
    "nft": "nftables",
}
"""Program -> Debian package."""
DAEMON_PATH = "/usr/sbin:/sbin"
"""Where the PATH of an ordinary user does not reach."""
READY_TIMEOUT_S = 30.0
_POLL_S = 0.02
_SETTLE_S = 1.0
_NODE_DIED = (
    "the node died: daemons stopped, links cut (were only keepalived killed, both nodes would have the VIPs)"
)
_STOPPED = "the planned move is keepalived's own: it was stopped on the primary"


class Incumbent:
    """gw-a and gw-b as keepalived, conntrackd and the kernel."""

    system = "incumbent"
    engine = "nftables"

    def __init__(self, topology: Topology, options: IncumbentOptions | None = None) -> None:
        self._topology = topology
        self._options = options or IncumbentOptions()
        self.variant: str | None = self._options.variant
        self.remarks: list[str] = []
        self._daemons: dict[str, list[subprocess.Popen[bytes]]] = {}

    async def start(self) -> None:
        if missing := missing_packages():
            raise LabError(
                f"the incumbent is not installed: Debian packages {', '.join(missing)} "
                "(deploy/drill --system incumbent installs what is missing)"
            )
        for gateway in plan.GATEWAYS:
            self._set_up(gateway)
        # Who comes first stays primary, so the second is started when the first has the addresses.
        for gateway in plan.GATEWAYS:
            self._start_daemons(gateway.name)
            await self._wait(lambda: self._owners() == ["gw-a"], "gw-a has the addresses")
        await self.wait_ready()

    def _set_up(self, gateway: plan.Gateway) -> None:
        places = self._places(gateway.name)
        places.directory.mkdir()
        places.keepalived.write_text(keepalived_configuration(gateway, places, self._options))
        if self._options.sync_enabled:
            peer = plan.gateway_named(other(gateway.name))
            places.conntrackd.write_text(conntrackd_configuration(gateway, peer, places))
            places.script.write_text(stock_script(_read_stock_script(), places))
            places.script.chmod(0o755)
        self._run(gateway.name, "nft", "-f", "-", text=rules(self._options))
        # After the rules, which load conntrack and with it its sysctls.
        namespaces.write_sysctls(self._topology.namespace(gateway.name), sysctls(self._options))

    def _places(self, name: str) -> Places:
        return Places(self._topology.directory / f"incumbent-{name}")

    def _run(self, name: str, program: str, *arguments: str, text: str = "") -> None:
        done = subprocess.run(
            ["ip", "netns", "exec", self._topology.namespace(name), program, *arguments],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,
        )
        if done.returncode != 0:
            raise LabError(f"{program} failed on {name}: {done.stderr.strip()}")

    def _start_daemons(self, name: str) -> None:
        places, namespace = self._places(name), self._topology.namespace(name)
        commands = {}
        if self._options.sync_enabled:
            commands["conntrackd"] = ["-C", str(places.conntrackd)]
        commands["keepalived"] = [
            "--dont-fork", "--vrrp", "--log-console", "--no-syslog", "--use-file", str(places.keepalived),
            "--pid", str(places.directory / "keepalived.pid"),
            "--vrrp_pid", str(places.directory / "vrrp.pid"),
        ]  # fmt: skip
        self._daemons[name] = [
            spawn(namespace, [str(_program(program)), *arguments], log=places.directory / f"{program}.out")
            for program, arguments in commands.items()
        ]

    async def wait_ready(self) -> None:
        """One owner, and both conntrackd answer; then a moment for the two to agree on their first sequence numbers."""
        await self._wait(lambda: len(self._owners()) == 1, "one gateway has the addresses")
        if self._options.sync_enabled:
            for gateway in plan.GATEWAYS:
                socket_path = self._places(gateway.name).socket
                await self._wait(socket_path.exists, f"{gateway.name}'s conntrackd listens")
        await asyncio.sleep(_SETTLE_S)

    async def _wait(self, condition: Any, what: str) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not condition():
            for name, daemons in self._daemons.items():
                for daemon in daemons:
                    if daemon.poll() is not None:
                        raise LabError(f"a daemon of {name} ended early\n{self.messages()}")
            if time.monotonic() > deadline:
                raise LabError(f"not within {READY_TIMEOUT_S:.0f} s: {what}\n{self.messages()}")
            await asyncio.sleep(_POLL_S)

    def _owners(self) -> list[str]:
        return [gateway.name for gateway in plan.GATEWAYS if self._owns(gateway.name)]

    def _owns(self, name: str) -> bool:
        """Whether a gateway has both VIPs: an address that can be bound is the host's own."""
        with namespaces.inside(self._topology.namespace(name)):
            sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
        try:
            for one, vip in zip(sockets, (plan.INSIDE_VIP, plan.OUTSIDE_VIP), strict=True):
                one.bind((vip, 0))
        except OSError:
            return False
        finally:
            for one in sockets:
                one.close()
        return True

    async def primary(self) -> str:
        owners = self._owners()
        if len(owners) != 1:
            raise LabError(
                f"expected one owner of the addresses, found {owners or 'none'}\n{self.messages()}"
            )
        return owners[0]

    async def status(self, name: str) -> dict[str, Any] | None:
        return {"role": "primary" if self._owns(name) else "backup"}

    def kill(self, name: str) -> int:
        return self.cut_off(name)

    def cut_off(self, name: str) -> int:
        self._signal(name, signal.SIGSTOP)
        moment = self._topology.cut(name)
        self._signal(name, signal.SIGKILL)
        self.remarks.append(_NODE_DIED)
        return moment

    def _signal(self, name: str, number: signal.Signals) -> None:
        """To whole process groups, which `spawn` makes: keepalived's children would outlive it and give up the VIPs."""
        for daemon in self._daemons.get(name, ()):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(daemon.pid, number)

    async def last_word(self, name: str) -> list[dict[str, Any]] | None:
        return None

    async def restart(self, name: str) -> None:
        """The node boots: no address but its own, an empty table, its daemons started."""
        for daemon in self._daemons[name]:
            await asyncio.to_thread(daemon.wait)
        namespace = self._topology.namespace(name)
        vips = (
            ("inside", plan.INSIDE_VIP, plan.PREFIX_LENGTH), ("outside", plan.OUTSIDE_VIP, plan.PREFIX_LENGTH),
            ("inside", plan.INSIDE_VIP6, plan.PREFIX_LENGTH6), ("outside", plan.OUTSIDE_VIP6, plan.PREFIX_LENGTH6),
        )  # fmt: skip
        for interface, vip, length in vips:
            with contextlib.suppress(LabError):  # keepalived may have taken it away when its links went
                namespaces.run_ip([f"addr del {vip}/{length} dev {interface}"], namespace)
        self._run(name, "conntrack", "-F")
        for left in (self._places(name).socket, self._places(name).lock):
            left.unlink(missing_ok=True)
        self._topology.mend(name)
        self._start_daemons(name)

    async def switch_over(self) -> int:
        primary = await self.primary()
        moment = now_ns()
        os.kill(self._daemons[primary][-1].pid, signal.SIGTERM)
        self.remarks.append(_STOPPED)
        return moment

    async def stop(self) -> None:
        for name in self._daemons:
            self._signal(name, signal.SIGKILL)
        for daemon in (daemon for daemons in self._daemons.values() for daemon in daemons):
            daemon.wait()

    def messages(self) -> str:
        last = []
        for gateway in plan.GATEWAYS:
            for log in sorted(self._places(gateway.name).directory.glob("*.out")):
                lines = log.read_text(errors="replace").splitlines()[-8:]
                last += [f"{gateway.name} {log.stem}: {line}" for line in lines]
        return "\n".join(last) or "(neither node left a message)"


def missing_packages() -> list[str]:
    """Debian packages that this machine lacks for the incumbent."""
    return sorted(package for program, package in PACKAGES.items() if _program(program) is None)


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{DAEMON_PATH}")


def _read_stock_script() -> str:
    """As packaged; a slim image may have been told to leave /usr/share/doc out. Raises LabError."""
    try:
        return Path(STOCK_SCRIPT).read_text()
    except OSError as error:
        raise LabError(
            f"conntrackd's package left no {STOCK_SCRIPT} on this machine: {error.strerror}"
        ) from error
