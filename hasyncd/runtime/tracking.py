"""The checks of this machine's fitness (`[[track]]`): each runs by itself, and its samples go to the core.

What is this machine's own shortage (no descriptors, no memory) says nothing about what is checked: no sample.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import random
import socket
import struct
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from hasyncd.bounded_command import judge_command
from hasyncd.config_tracks import Track
from hasyncd.datapath.gateway_probe import GatewayProbe
from hasyncd.datapath.interfaces import Interface
from hasyncd.datapath.kernel_tables import RouteEntry
from hasyncd.task_death import tell_of_death

Verdict = tuple[bool | None, str]
"""Good, bad or no sample at all; and why."""

_SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN})
_SIOCGIFFLAGS: Final = 0x8913
_IFREQ: Final = struct.Struct("=16sH22x")
_IFF_UP_AND_RUNNING: Final = 0x1 | 0x40
_LAN: Final = {"inside": 0, "outside": 1}


class Tracking:
    """Runs the checks; `on_sample` gets (name, good, why) in the event loop."""

    def __init__(
        self,
        tracks: Sequence[Track],
        lans: tuple[Interface, Interface],
        routes: Callable[[], Sequence[RouteEntry]],
        on_sample: Callable[[str, bool, str], None],
        *,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`routes` gives the kernel's, for gateways that are not named; `jitter` the part (0 … 1) of an interval
        before the first check."""
        self._tracks, self._lans, self._routes = tracks, lans, routes
        self._on_sample = on_sample
        self._jitter = jitter
        self._tasks: list[asyncio.Task[None]] = []
        self._probes: dict[tuple[str, IPv4Address | IPv6Address], GatewayProbe] = {}

    def start(self) -> None:
        assert not self._tasks, "started once"
        self._tasks = [
            asyncio.create_task(self._run(track), name=f"track {track.name}") for track in self._tracks
        ]
        for task in self._tasks:
            task.add_done_callback(tell_of_death(f"the {task.get_name()} check died"))

    async def stop(self) -> None:
        """Ends the checks, and the commands under way. Idempotent."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, track: Track) -> None:
        loop = asyncio.get_running_loop()
        interval_s = track.interval_ms / 1000
        await asyncio.sleep(self._jitter() * interval_s)
        while True:
            began = loop.time()
            good, why = await self._judge(track)
            if good is not None:
                self._on_sample(track.name, good, why)
            await asyncio.sleep(max(0.0, began + interval_s - loop.time()))

    async def _judge(self, track: Track) -> Verdict:
        try:
            match track.kind:
                case "interface":
                    return judge_interface(track.interface or "")
                case "gateway":
                    return await self._judge_gateway(track)
                case "command":
                    return await judge_command(track.command, track.timeout_s)
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            return (None if error.errno in _SHORTAGES else False), why

    async def _judge_gateway(self, track: Track) -> Verdict:
        """The one that is named, or any of the default routes'."""
        side = track.interface or "outside"
        gateways = [(side, track.address)] if track.address else list(self._default_gateways())
        if not gateways:
            return False, "there is no default route"
        asked = [
            self._probes.setdefault(key, GatewayProbe(self._lans[_LAN[key[0]]], key[1])) for key in gateways
        ]
        answers = await asyncio.gather(
            *(probe.ask(track.timeout_s) for probe in asked), return_exceptions=True
        )
        names = ", ".join(str(address) for _, address in gateways)
        if any(answer is True for answer in answers):
            return True, f"{names} answers"
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return False, f"no answer from {names} within {track.timeout_s * 1000:g} ms"

    def _default_gateways(self) -> list[tuple[str, IPv4Address | IPv6Address]]:
        sides = {number: name for name, number in _LAN.items()}
        return [
            (sides[side], IPv6Address(gateway) if isinstance(gateway, bytes) else IPv4Address(gateway))
            for _, length, side, gateway in self._routes()
            if length == 0 and gateway
        ]


def judge_interface(name: str) -> Verdict:
    """Whether an interface of this network namespace is up and has its carrier (netdevice(7)). Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asking:
        try:
            answer = fcntl.ioctl(asking, _SIOCGIFFLAGS, _IFREQ.pack(name.encode(), 0))
        except OSError as error:
            if error.errno == errno.ENODEV:
                return False, f"there is no interface {name}"
            raise
    up = _IFREQ.unpack(answer)[1] & _IFF_UP_AND_RUNNING == _IFF_UP_AND_RUNNING
    return up, f"{name} is {'up' if up else 'down'}"
