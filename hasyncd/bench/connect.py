"""`connect.*`: new TCP connections a second through the gateway, beside the kernel's own nft NAT in the same run.

Client and server have no sockets (`connect_load.c`, `connect_ends.c`): both ends of a connection cost less than what
the gateway does, and cost both gateways the same. A connection is SYN, SYN-ACK, ACK, counted where the ACK arrives,
and a RST: four packets through the gateway. Two arrangements:

- as in `forward.*`: SYNs leave from core 0. The kernel does all of its part there; hasyncd's thread, and what its
  packets do in the ends, uses another core.
- a core each (RPS): the ends on core 0, the gateway's interfaces on core 1.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from hasyncd.bench.bed import Bed
from hasyncd.bench.row import Row, middle
from hasyncd.lab.namespaces import LabError, run_ip
from hasyncd.lab.program import build

ROUNDS = 5
_SECONDS = 1.0
_SOURCES = _DESTINATIONS = 4096
_BACKENDS = [f"10.1.0.{last}:8080" for last in range(1, 5)]
_CONNTRACK_MAX = Path("/proc/sys/net/netfilter/nf_conntrack_max")
_CONNTRACK_ROOM = 2_000_000
Say = Callable[[str], None]


class ConnectBed(Bed):
    """Many clients in 10.1.0.0/16, many servers in 198.18.0.0/15 (RFC 2544), a service with four backends."""

    capacity = 4 << 20  # what was opened and reset stays for four minutes: no round may find the table full
    rules = (
        "table ip bench { chain post { type nat hook postrouting priority 100; "
        "ip saddr 10.1.0.0/16 snat to 203.0.113.5; }; chain pre { type nat hook prerouting priority -100; "
        "ip daddr 203.0.113.5 tcp dport 80 dnat to jhash ip saddr . tcp sport mod 4 map { "
        + ", ".join(f"{i} : {at.replace(':', ' . ')}" for i, at in enumerate(_BACKENDS))
        + " }; }; }"
    )
    configuration = "\n".join(
        [
            Bed.configuration,
            '[[nat]]\nsource = ["10.1.0.0/16"]\npublic = ["203.0.113.5"]',
            '[[service]]\nname = "web"\nvip = "203.0.113.5:80"\nprotocol = "tcp"\nalgorithm = "consistent-hash"',
            *(f'[[service.backends]]\nid = {i}\naddress = "{at}"' for i, at in enumerate(_BACKENDS, 1)),
        ]
    )

    def __init__(self, gateway: str, name: str = "") -> None:
        super().__init__(gateway, name)
        self._next = 0  # no round opens a connection that an earlier one has opened

    def _wire(self) -> None:
        super()._wire()
        run_ip(
            ["route add 10.1.0.0/16 via 10.0.1.7", "route add 198.18.0.0/15 via 203.0.113.50"], self.middle
        )

    def steer(self, ends: int, gateway: int) -> None:
        """Which cores receive (a mask, 0: where the sender is), at both ends and at the gateway."""
        for namespace, device, cores in (
            (self.client, "c0", ends),
            (self.server, "s0", ends),
            (self.middle, "inside", gateway),
            (self.middle, "outside", gateway),
        ):
            self.run(namespace, "sh", "-c", f"echo {cores} > /sys/class/net/{device}/queues/rx-0/rps_cpus")

    def connect(self, program: Path, kind: str, seconds: float) -> Load:
        """Opens connections: `nat` from inside to many servers, `lb` from many clients to the service."""
        inside, outside = (self.client, "c0"), (self.server, "s0")
        if kind == "nat":
            ends, device = (*inside, *outside), "inside"
            addresses = ["10.1.0.1", str(_SOURCES), "198.18.0.1", str(_DESTINATIONS)]
        else:
            ends, device = (*outside, *inside), "outside"
            addresses = ["198.18.0.1", str(_SOURCES), "203.0.113.5", "1"]
        gateway = json.loads(self.run(self.middle, "ip", "-json", "link", "show", device))[0]["address"]
        done = subprocess.run(
            [program, *ends, gateway, *addresses, "80", str(self._next), str(seconds)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise LabError(done.stderr.strip())
        load = Load(**json.loads(done.stdout))
        self._next += load.total_sent
        return load


@dataclass(frozen=True, slots=True)
class Load:
    """What `connect_load` tells: `seconds`, `busy_s` (all cores) and `established` of its middle, the rest in all."""

    seconds: float
    busy_s: float
    established: int
    total_sent: int
    total_answered: int
    total_confirmed: int
    total_established: int
    total_reset: int
    wrong: int

    @property
    def rate(self) -> float:
        return self.established / self.seconds

    @property
    def per_cpu_s(self) -> float:
        return self.established / max(self.busy_s, 0.01)

    @property
    def lost(self) -> float:
        """The share of the SYNs of which nothing came."""
        return 1 - self.total_established / max(self.total_sent, 1)


def build_load(directory: Path) -> Path:
    """The program that opens connections. Raises LabError."""
    here = Path(__file__).parent
    sources = ("connect_load.c", "connect_ends.c", "packet_load.c")
    return build(directory / "connect_load", [here / source for source in sources])


@contextlib.contextmanager
def conntrack_room() -> Iterator[None]:
    """The kernel's limit on connections, one for the whole machine, is out of the way for so long."""
    try:
        before = _CONNTRACK_MAX.read_text()
        if int(before) < _CONNTRACK_ROOM:
            _CONNTRACK_MAX.write_text(str(_CONNTRACK_ROOM))
    except OSError as error:
        raise LabError(f"{_CONNTRACK_MAX}: {error.strerror}") from error
    try:
        yield
    finally:
        _CONNTRACK_MAX.write_text(before)


@dataclass(frozen=True, slots=True)
class _Arrangement:
    name: str
    ends: int
    gateway: int
    cores: str


_ARRANGEMENTS = [
    _Arrangement("", 0, 0, "packet thread and SYNs on a core each; kernel and SYNs on one"),
    _Arrangement(", a core each", 1, 2, "both: ends on one core, gateway on the other"),
]


def _compare(kind: str, how: _Arrangement, program: Path, beds: dict[str, ConnectBed], say: Say) -> Row:
    loads: dict[str, list[Load]] = {side: [] for side in beds}
    for bed in beds.values():
        bed.steer(how.ends, how.gateway)
    for turn in range(ROUNDS):
        for side, bed in beds.items():
            say(f"connect.{kind}{how.name}: round {turn + 1} of {ROUNDS}, {side}")
            load = bed.connect(program, kind, _SECONDS)
            if load.wrong:
                raise LabError(f"{side} forwarded {load.wrong} packets that belong to no connection")
            loads[side].append(load)
    rates = {side: [load.rate for load in seen] for side, seen in loads.items()}
    notes = []
    for side, seen in loads.items():
        per_cpu = median(load.per_cpu_s for load in seen)
        lost = sum(load.lost for load in seen) / len(seen)
        notes.append(
            f"{side} {per_cpu:.3g} per CPU-second, {min(rates[side]):.3g}-{max(rates[side]):.3g}, lost {lost:.2%}"
        )
    return Row(
        name=f"connect.{kind}",
        variant=kind + how.name,
        unit="connections/s",
        better="higher",
        value=middle(next(iter(rates.values()))),
        baseline="kernel nft",
        baseline_value=middle(rates["kernel"]),
        samples=ROUNDS,
        cores=how.cores,
        notes="; ".join(notes),
    )


def measure(names: set[str], say: Say, engine: str = "packet") -> list[Row]:
    """The wanted rows of this file. Raises LabError."""
    rows = []
    with (
        tempfile.TemporaryDirectory(prefix="hasyncd-bench-") as scratch,
        ConnectBed(engine) as ours,
        ConnectBed("kernel") as kernel,
        conntrack_room(),
    ):
        program = build_load(Path(scratch))
        for kind in ("nat", "lb"):
            if f"connect.{kind}" in names:
                rows += [
                    _compare(kind, how, program, {engine: ours, "kernel": kernel}, say)
                    for how in _ARRANGEMENTS
                ]
    return rows
