"""Announces addresses that no LAN has through a routing daemon (`[routes]`): a primary's, and only while it is one.

1. Said to the kernel, heard by the daemon: it redistributes the routes of `AnnouncedRoutes`, which die with this
   process. Nothing of the daemon's configuration is ever written.
2. A later promotion is the better route: the metric falls with the generation, so that what is still believed of a dead
   machine, or still announced by a node that was stopped, loses at once. The daemon passes it on as MED.
3. Withdrawn late: whoever handed over relays stragglers, so its route stays until that ends, and no router is without.
4. What the daemon has told its neighbours is read from it (`vtysh`, FRR's own interface) and is for people: the event
   `routes_announced`, the status. Errors are events; none of them stops the pair.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Callable, Sequence
from typing import Any, Final

from hasyncd.config_routes import Routes
from hasyncd.datapath.announced_routes import METRIC_MAX, AnnouncedRoutes

_RETRY_S: Final = 1.0
_LOOK_SOON_S: Final = 0.2
_LOOK_LATER_S: Final = 5.0
_VTYSH_TIMEOUT_S: Final = 2.0
_OUTPUT_BYTES_MAX: Final = 1 << 20

Report = Callable[[str, str], None]


class RouteDriver:
    """`announce` and `withdraw` are the shell's; each may be called again."""

    def __init__(self, settings: Routes, report: Report) -> None:
        self._settings, self._report = settings, report
        self._loop = asyncio.get_running_loop()
        self._routes: AnnouncedRoutes | None = None
        self._task: asyncio.Task[None] | None = None
        self._withdrawal: asyncio.TimerHandle | None = None
        self._told: dict[str, list[str]] = {}
        """Prefix: the neighbours that were told of it."""
        self._error: str | None = None
        self._since = 0.0

    def announce(self, generation: int) -> None:
        """This node is primary of that generation."""
        self._cancel_withdrawal()
        metric = max(1, METRIC_MAX - generation)
        if self._task is not None and self._routes is not None and self._routes.metric == metric:
            return
        self._end()
        self._since = self._loop.time()
        self._task = asyncio.create_task(self._keep(metric), name="routes")

    def withdraw(self, after_s: float) -> None:
        """This node is primary no more; for so long it relays."""
        self._cancel_withdrawal()
        if self._task is not None:
            self._withdrawal = self._loop.call_later(after_s, self._withdraw_now)

    def close(self) -> None:
        """Withdraws at once and for good."""
        self._cancel_withdrawal()
        self._end()

    @property
    def converged(self) -> bool:
        """The routes are announced, and each was told to a neighbour when the daemon was last asked."""
        return self._routes is not None and bool(self._told) and all(self._told.values())

    def view(self) -> dict[str, Any]:
        """For `status`."""
        return {
            "driver": self._settings.driver,
            "metric": self._routes.metric if self._routes else None,
            "error": self._error,
            "prefixes": [
                {
                    "prefix": str(prefix),
                    "announced": self._routes is not None,
                    "told": self._told.get(str(prefix), []),
                }
                for prefix in self._settings.prefixes
            ],
        }

    def _withdraw_now(self) -> None:
        self._withdrawal = None
        announced = self._routes is not None
        self._end()
        if announced:
            self._report("routes_withdrawn", ", ".join(map(str, self._settings.prefixes)))

    def _cancel_withdrawal(self) -> None:
        if self._withdrawal is not None:
            self._withdrawal.cancel()
            self._withdrawal = None

    def _end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self._routes is not None:
            self._routes.close()
            self._routes = None
        self._told, self._error = {}, None

    # --- while primary -------------------------------------------------------------------------------

    async def _keep(self, metric: int) -> None:
        """Until cancelled: the routes are in the kernel, and what the daemon makes of them is known."""
        converged = False
        while True:
            if self._routes is None:
                try:
                    self._routes = AnnouncedRoutes(self._settings.device, self._settings.prefixes, metric)
                except OSError as error:
                    self._fail(str(error))
                    await asyncio.sleep(_RETRY_S)
                    continue
            converged = await self._look(converged=converged)
            await asyncio.sleep(_LOOK_LATER_S if converged else _LOOK_SOON_S)

    async def _look(self, *, converged: bool) -> bool:
        """Asks the daemon; True when each prefix was told to somebody."""
        try:
            self._told = await ask_told(self._settings)
        except (OSError, ValueError, TimeoutError) as error:
            self._fail(f"{self._settings.vtysh}: {error or 'no answer in time'}")
            return False
        self._error = None
        complete = all(self._told.values())
        if complete and not converged:
            took_ms = int((self._loop.time() - self._since) * 1000)
            neighbours = sorted({name for names in self._told.values() for name in names})
            self._report("routes_announced", f"told to {', '.join(neighbours)} within {took_ms} ms")
        elif converged and not complete:
            lacking = ", ".join(prefix for prefix, names in self._told.items() if not names)
            self._report("routes_unheard", f"no neighbour is told of {lacking} any more")
        return complete

    def _fail(self, error: str) -> None:
        """Told when it begins, and when it becomes another one."""
        if error != self._error:
            self._error = error
            self._report("routes_failed", error)


async def ask_told(settings: Routes) -> dict[str, list[str]]:
    """Each prefix, and the BGP neighbours that the daemon has told of it. Raises OSError, TimeoutError, ValueError."""
    questions = [f"show bgp ipv{prefix.version} unicast {prefix} json" for prefix in settings.prefixes]
    answers = _objects(await _vtysh(settings, questions))
    if len(answers) != len(questions):
        raise ValueError(f"{len(questions)} questions and {len(answers)} answers")
    return {str(prefix): _told(answer) for prefix, answer in zip(settings.prefixes, answers, strict=True)}


def _told(answer: Any) -> list[str]:
    advertised = answer.get("advertisedTo") if isinstance(answer, dict) else None
    return sorted(map(str, advertised)) if isinstance(advertised, dict) else []


def _objects(text: str) -> list[Any]:
    """The JSON values that stand one after the other in a text. Raises ValueError."""
    found, decoder, rest = [], json.JSONDecoder(), text.strip()
    while rest:
        value, end = decoder.raw_decode(rest)
        found.append(value)
        rest = rest[end:].lstrip()
    return found


async def _vtysh(settings: Routes, questions: Sequence[str]) -> str:
    """FRR's own shell, asked of bgpd alone; no other shell reads the words."""
    words = [str(settings.vtysh)]
    if settings.vty_socket is not None:
        words += ["--vty_socket", str(settings.vty_socket)]
    words += ["-d", "bgpd"]
    for question in questions:
        words += ["-c", question]
    process = await asyncio.create_subprocess_exec(
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
        limit=_OUTPUT_BYTES_MAX,
    )
    try:
        async with asyncio.timeout(_VTYSH_TIMEOUT_S):
            output, _ = await process.communicate()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    if process.returncode:
        raise OSError(f"ended with {process.returncode}")
    return output.decode(errors="replace")
