"""`balance.changes`: what packets wait for while a hundred backends change one by one.

A flood at half of what the gateway was measured to carry, round trips beside it. In every other phase backends stop and
come back, one every few milliseconds; their health checks find it, tables are built and published. The other phases are
the same without that: the ratio is of one run.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from hasyncd.bench.bed import DISCARD_PORT, SERVER, Bed
from hasyncd.bench.forward import flood
from hasyncd.bench.row import Row
from hasyncd.cli.client import ask
from hasyncd.lab.namespaces import LabError, run_ip

NAME = "balance.changes"
BACKENDS = 100
RISE_MAX = 1.2
"""What the 99th percentile may be of what it is while nothing changes."""
_ROUNDS = 6
_PHASE_S = 4.0
_FIRST, _FIRST_NUMBER, _PORT, _ECHO_PORT = "10.0.1.100", 100, 8080, 7007
_ROUND_TRIPS = 60_000
"""More than a phase has time for: it is ended with the phase."""
_SETTLE_S = 1.5
Say = Callable[[str], None]


def _backends() -> str:
    rows = [
        f'  {{{{ id = {n}, address = "10.0.1.{_FIRST_NUMBER + n - 1}:{_PORT}" }}}},\n'
        for n in range(1, BACKENDS + 1)
    ]
    return f"backends = [\n{''.join(rows)}]\n"


class ServiceBed(Bed):
    """A gateway with a service of a hundred checked backends beside its NAT."""

    configuration = (
        Bed.configuration
        + """
[[service]]
name = "web"
vip = "203.0.113.5:80"
protocol = "tcp"
algorithm = "maglev"
health = {{ kind = "tcp", interval_ms = 500, timeout_ms = 400, rise = 1, fall = 1 }}
"""
        + _backends()
    )

    def _wire(self) -> None:
        super()._wire()
        run_ip([f"addr add 10.0.1.{_FIRST_NUMBER + n}/24 dev c0" for n in range(BACKENDS)], self.client)


def _generation(bed: Bed) -> int:
    items, _, _ = ask(bed.directory / "bench.sock", "status")
    return int(items[0]["services"][0]["ring_generation"])


def _phase(bed: Bed, rate: float, servers: subprocess.Popen[bytes], changing: bool) -> list[float]:
    """Round trips in us of one phase."""
    here = Path(__file__)
    sender = bed.start(
        bed.client, sys.executable, str(here.with_name("udp_flood.py")), SERVER, str(DISCARD_PORT),
        str(_PHASE_S + 1), f"{rate:.0f}",
    )  # fmt: skip
    time.sleep(0.5)
    told = bed.directory / "times"
    with told.open("wb") as out:
        asker = subprocess.Popen(
            ["ip", "netns", "exec", bed.client, "timeout", str(_PHASE_S), sys.executable, "-u",
             str(here.with_name("udp_echo.py")), "ask", SERVER, str(_ECHO_PORT), str(_ROUND_TRIPS)],
            stdout=out, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        if changing:
            _change_all(servers)
        asker.wait()
    sender.wait()
    return [float(line) for line in told.read_text().split()]


def _change_all(servers: subprocess.Popen[bytes]) -> None:
    """Each backend, one by one, within the phase."""
    assert servers.stdin is not None
    began = time.monotonic()
    for place in range(BACKENDS):
        servers.stdin.write(b"%d\n" % place)
        servers.stdin.flush()
        time.sleep(max(0.0, began + (place + 1) * (_PHASE_S - 0.7) / BACKENDS - time.monotonic()))


def _p99(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.99)]


def measure(say: Say) -> Row:
    """Raises LabError."""
    here = Path(__file__)
    with ServiceBed("packet") as bed:
        servers = subprocess.Popen(
            ["ip", "netns", "exec", bed.client, sys.executable, str(here.with_name("fickle_servers.py")),
             _FIRST, str(BACKENDS), str(_PORT)],
            stdin=subprocess.PIPE,
        )  # fmt: skip
        echo = bed.start(
            bed.server, sys.executable, str(here.with_name("udp_echo.py")), "serve", SERVER, str(_ECHO_PORT)
        )
        try:
            return _measure(bed, servers, say)
        finally:
            echo.kill()
            servers.kill()
            servers.wait()


def _measure(bed: Bed, servers: subprocess.Popen[bytes], say: Say) -> Row:
    time.sleep(_SETTLE_S)
    capacity = median(flood(bed).rate for _ in range(3))
    times: dict[bool, list[list[float]]] = {False: [], True: []}
    first = _generation(bed)
    for turn in range(_ROUNDS):
        for changing in (False, True):
            say(f"{NAME}: round {turn + 1} of {_ROUNDS}, {'changing' if changing else 'at rest'}")
            times[changing].append(_phase(bed, capacity / 2, servers, changing))
            time.sleep(_SETTLE_S)
    generations = _generation(bed) - first
    if generations < _ROUNDS * BACKENDS * 0.9:
        raise LabError(
            f"{generations} generations of {_ROUNDS * BACKENDS} changes: the checks did not find them"
        )
    rest, moving = ([each for phase in times[key] for each in phase] for key in (False, True))
    ratios = [_p99(there) / _p99(here) for here, there in zip(times[False], times[True], strict=True)]
    return Row(
        name=NAME,
        variant=f"{BACKENDS} backends",
        unit="us p99",
        better="lower",
        value=_p99(moving),
        baseline="at rest",
        baseline_value=_p99(rest),
        samples=len(moving),
        p50=median(moving),
        p99=_p99(moving),
        notes=f"at most {RISE_MAX} wanted; p50 {median(moving):.0f}, at rest {median(rest):.0f}; ratios of p99 round "
        f"by round {', '.join(f'{ratio:.2f}' for ratio in ratios)} (median {median(ratios):.2f}); "
        f"{generations} changes, {capacity / 2 / 1e3:.0f} k packets/s beside it",
    )
