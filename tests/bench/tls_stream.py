"""Bytes a second of a delta stream, plain and under TLS, in turns: `python -m tests.bench.tls_stream`.

Both ends in two processes over loopback. The figure is the ratio of the medians; CPU is that of each process.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import statistics
import struct
import tempfile
from pathlib import Path

import uvloop

from hasyncd.pair_files import make_pair_files
from hasyncd.runtime.clock import now_ns
from hasyncd.runtime.delta_stream import DeltaStream
from hasyncd.runtime.pair_keys import PairKeys, load_pair_keys
from hasyncd.runtime.tls import TlsSession

ROUNDS = 5
MEGABYTES = 200
FRAME = os.urandom(65_536)


def shake(connection: socket.socket, keys: PairKeys, *, accepted: bool) -> TlsSession:
    session = TlsSession(keys, accepted=accepted)
    done = session.shake(b"")
    connection.sendall(session.outgoing())
    while not done:
        done = session.shake(connection.recv(65_536))
        connection.sendall(session.outgoing())
    return session


async def send(connection: socket.socket, tls: TlsSession | None) -> None:
    left = MEGABYTES * 1_000_000 // len(FRAME)
    done = asyncio.Event()

    def push() -> None:
        nonlocal left
        while left and not stream.backlog:
            left -= 1
            stream.write(FRAME)
        if not left:
            done.set()

    stream = DeltaStream(connection, lambda *_: None, lambda _: done.set(), push, tls)
    push()
    await done.wait()
    stream.close(flush=True)
    await asyncio.sleep(0.05)


async def receive(connection: socket.socket, tls: TlsSession | None) -> int:
    wanted, heard, ended = MEGABYTES * 1_000_000 // len(FRAME) * len(FRAME), 0, asyncio.Event()

    def take(_: DeltaStream, data: bytes) -> None:
        nonlocal heard
        heard += len(data)
        if heard >= wanted:
            ended.set()

    stream = DeltaStream(connection, take, lambda _: ended.set(), lambda: None, tls)
    await ended.wait()
    stream.close()
    return heard


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measure(keys: tuple[PairKeys, PairKeys] | None) -> tuple[float, float, float]:
    """(megabytes a second, the sender's CPU seconds, the receiver's)."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        child = os.fork()
        if not child:
            out = socket.create_connection(listener.getsockname())
            tls = shake(out, keys[0], accepted=False) if keys else None
            before = cpu_seconds()
            uvloop.run(send(out, tls))
            os.write(PIPE[1], struct.pack("d", cpu_seconds() - before))
            os._exit(0)
        connection, _ = listener.accept()
    tls = shake(connection, keys[1], accepted=True) if keys else None
    began, before = now_ns(), cpu_seconds()
    heard = uvloop.run(receive(connection, tls))
    seconds, own = (now_ns() - began) / 1e9, cpu_seconds() - before
    os.waitpid(child, 0)
    return heard / 1e6 / seconds, struct.unpack("d", os.read(PIPE[0], 8))[0], own


PIPE = os.pipe()

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        make_pair_files(Path(folder, "keys"), ("a", "b"))
        both = tuple(load_pair_keys(Path(folder, "keys", name), name) for name in ("a", "b"))
        rows = [(measure(None), measure((both[0], both[1]))) for _ in range(ROUNDS)]
    plain, sealed = ([row[kind] for row in rows] for kind in (0, 1))
    for name, kind in (("plain", plain), ("TLS", sealed)):
        rate, sender, receiver = (statistics.median(each) for each in zip(*kind, strict=True))
        print(
            f"{name:6} {rate:7.0f} MB/s   CPU per MB: sender {sender / MEGABYTES * 1e6:5.0f} us,"
            f" receiver {receiver / MEGABYTES * 1e6:5.0f} us"
        )
    print(
        f"ratio  {statistics.median(row[1][0] for row in rows) / statistics.median(row[0][0] for row in rows):.2f}"
    )
