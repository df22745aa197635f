"""`sync.wire_*`: bytes a record on the link between the nodes, all headers and TLS included.

The link has its offloads off, so that what is counted are segments as a wire would carry them. A batch is made by
stopping the gateway (SIGSTOP) for the moment in which its packets arrive: it finds them all at once, as under load.
Counted is TCP at the receiving interface, Ethernet header included; heartbeats are not the stream's.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from hasyncd.bench.bed import SERVER
from hasyncd.bench.pair_bed import PairBed
from hasyncd.bench.row import Row
from hasyncd.lab.namespaces import inside

BATCH = 256
BATCHES = 10
SINGLES = 20
ECHOES = 4
"""Batches of echo flows whose ends are waited for: they live for 60 s."""
_ECHO_LIFE_S = 75.0
_SOURCE, _PORT, _FIRST_SOURCE_PORT = "10.0.1.7", 7007, 10_000
_ETHERNET = 14
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE, _BUFFER_BYTES = 32, 33, 4 << 20
_COUNTER = (
    "add table netdev wire; add chain netdev wire seen "
    "{{ type filter hook ingress device sync priority 0; }}; add rule netdev wire seen tcp {port} 7077 counter"
)
Say = Callable[[str], None]
_Result = TypeVar("_Result")


class WireBed(PairBed):
    """A pair whose stream is counted, and flows that can be opened and answered in batches."""

    def __enter__(self) -> WireBed:
        super().__enter__()
        self.cut_at_sender()
        self.run(self.backup, "nft", _COUNTER.format(port="dport"))
        self.run(self.middle, "nft", _COUNTER.format(port="sport"))
        with inside(self.server):
            self._server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for force in (
            _SO_SNDBUFFORCE,
            _SO_RCVBUFFORCE,
        ):  # a whole batch waits for the gateway that is stopped
            self._server.setsockopt(socket.SOL_SOCKET, force, _BUFFER_BYTES)
        self._server.bind((SERVER, _PORT))
        self._server.settimeout(5)
        self._next_port = _FIRST_SOURCE_PORT
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()
        super().__exit__()

    def counted(self) -> tuple[int, int]:
        """(bytes to the backup, bytes back) of the stream so far."""
        return self._counted(self.backup), self._counted(self.middle)

    def _counted(self, namespace: str) -> int:
        told = json.loads(self.run(namespace, "nft", "-j", "list", "table", "netdev", "wire"))
        rule = next(entry["rule"] for entry in told["nftables"] if "rule" in entry)
        counter = next(word["counter"] for word in rule["expr"] if "counter" in word)
        return int(counter["bytes"]) + _ETHERNET * int(counter["packets"])

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """The gateway finds what arrives meanwhile all at once."""
        os.kill(self.pid("bench-a"), signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid("bench-a"), signal.SIGCONT)

    def settle(self, head: int = 0) -> int:
        """Waits until there are `head` records and all are acknowledged; how many there are. Raises LabError."""
        quiet = self.await_status(
            "bench-a",
            lambda status: head <= status["sync"]["acked"] == status["sync"]["head"],
            "had all acknowledged",
        )
        return int(quiet["sync"]["head"])

    def open_flows(self, count: int) -> list[tuple[str, int]]:
        """First packets of so many flows at once; where the server saw them come from."""
        with contextlib.ExitStack() as stack:
            with inside(self.client):
                hosts = [
                    stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                    for _ in range(count)
                ]
            for host in hosts:
                host.bind((_SOURCE, self._next_port))
                host.connect((SERVER, _PORT))
                self._next_port += 1
            with self.stopped():
                for host in hosts:
                    host.send(b"first")
            return [self._server.recvfrom(64)[1] for _ in hosts]

    def answer(self, flows: list[tuple[str, int]]) -> None:
        """The server's first packets of these flows, at once."""
        with self.stopped():
            for flow in flows:
                self._server.sendto(b"answer", flow)

    def open_echoes(self, count: int, first: int) -> None:
        """Echo flows with identifiers from `first` on, at once."""
        with inside(self.client):
            raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        with raw, self.stopped():
            for number in range(first, first + count):
                head = struct.pack("!BBHHH", 8, 0, 0, number, 1)
                total = 0x0800 + number + 1
                total = (total & 0xFFFF) + (total >> 16)
                raw.sendto(head[:2] + struct.pack("!H", ~total & 0xFFFF) + head[4:], (SERVER, 0))


def _row(
    name: str, variant: str, goal: float | None, records: int, octets: tuple[int, int], batches: int
) -> Row:
    there, back = (count / records for count in octets)
    return Row(
        name, variant, "bytes", "lower", there, None if goal is None else "goal", goal, records,
        notes=f"{records / batches:.0f} records a batch; {back:.1f} more on the way back, acknowledged by TCP",
    )  # fmt: skip


class _Sums:
    def __init__(self) -> None:
        self.records, self.there, self.back, self.batches = 0, 0, 0, 0

    def add(self, bed: WireBed, expected: int, act: Callable[[], _Result]) -> _Result:
        """Counts what the stream carries from before `act` until so many records, or more, are acknowledged. Raises
        LabError."""
        head, (there, back) = bed.settle(), bed.counted()
        result = act()
        records, after = bed.settle(head + expected) - head, bed.counted()
        self.records += records
        self.there += after[0] - there
        self.back += after[1] - back
        self.batches += 1
        return result

    def row(self, name: str, variant: str, goal: float | None) -> Row:
        return _row(name, variant, goal, self.records, (self.there, self.back), self.batches)


def _rounds(bed: WireBed, size: int, count: int) -> tuple[_Sums, _Sums]:
    """(ADDs, UPDATEs) in batches of `size`."""
    adds, updates = _Sums(), _Sums()
    for _ in range(count):
        flows = adds.add(bed, size, lambda: bed.open_flows(size))
        updates.add(bed, size, functools.partial(bed.answer, flows))
    return adds, updates


def _ends(bed: WireBed, say: Say) -> _Sums:
    for number in range(ECHOES):
        bed.open_echoes(BATCH, 1 + number * BATCH)
        time.sleep(2)  # the wheel of timeouts turns by the second: a batch each
    bed.settle()
    say(f"sync.wire_update: {_ECHO_LIFE_S:.0f} s until flows have timed out")
    sums = _Sums()
    sums.add(bed, ECHOES * BATCH, lambda: time.sleep(_ECHO_LIFE_S))
    sums.batches = ECHOES
    return sums


def measure(names: set[str], say: Say, *, batches: int = BATCHES, ends: bool = True) -> list[Row]:
    """The wanted rows of this file; `ends`: with those that take a minute. Raises LabError."""
    rows: list[Row] = []
    with WireBed("wire", "ack", dead_after_ms=1_000) as bed:
        say(f"sync.wire: {batches} batches of {BATCH}, and one by one")
        adds, updates = _rounds(bed, BATCH, batches)
        add, update = _rounds(bed, 1, SINGLES)
        if "sync.wire_add" in names:
            rows += [
                adds.row("sync.wire_add", f"batches of {BATCH}", 36.0),
                add.row("sync.wire_add", "one by one", None),
            ]
        if "sync.wire_update" in names:
            rows += [
                updates.row("sync.wire_update", f"UPDATE, batches of {BATCH}", 16.0),
                update.row("sync.wire_update", "UPDATE, one by one", None),
            ]
            if ends:
                rows.append(_ends(bed, say).row("sync.wire_update", f"DEL, batches of {BATCH}", 16.0))
    return rows
