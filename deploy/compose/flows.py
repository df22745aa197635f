#!/usr/bin/env python3
"""Keeps TCP connections and UDP flows talking to a server, and says of each whether it survived.

Every flow is one socket for its whole life: one request, one reply, the next request, each with a sequence
number and bytes of its own that must come back whole. The reply names the server and the source it saw; both
must stay what they were (another backend, another public port: *remapped*). A line of progress a second;
ctrl-C or `--seconds` ends it with a table and exit code 1 if a flow was broken. `--json` prints one array a
second instead, and ends when standard input does.
"""
# ruff: noqa: T201  (standard output is its product)

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import secrets
import signal
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass

INTERVAL_S = 0.1
"""From a reply to the next request."""
LOST_AFTER_S = 0.2
"""A datagram that was not answered by then is given up, and the next one is sent."""
STALLED_AFTER_S = 5.0


@dataclass
class Flow:
    """One flow as seen from its client; times in milliseconds."""

    protocol: str
    number: int
    answered: int = 0
    lost_datagrams: int = 0
    server: str = ""
    source: str = ""
    longest_silence_ms: int = 0
    broken: str | None = None
    heard_at: float = 0.0

    def receive_reply(self, request: bytes, reply: bytes) -> None:
        """Checks one reply; sets `broken` if it is not what this flow must hear."""
        now = time.monotonic()
        if self.answered:
            self.longest_silence_ms = max(self.longest_silence_ms, round((now - self.heard_at) * 1000))
        self.heard_at = now
        echoed, _, seen = reply.decode().rstrip("\n").rpartition(request.decode().rstrip("\n") + " ")
        fields = seen.split()
        if echoed or len(fields) != 2:
            self.broken = f"corrupt: {reply!r}"
            return
        if not self.answered:
            self.server, self.source = fields
        elif [self.server, self.source] != fields:
            self.broken = f"remapped: {self.server} {self.source} became {fields[0]} {fields[1]}"
        self.answered += 1

    def verdict(self) -> str:
        if self.broken:
            return self.broken
        if not self.answered or time.monotonic() - self.heard_at > STALLED_AFTER_S:
            return "stalled"
        return "survived"

    def request(self) -> bytes:
        return b"%d %s\n" % (self.answered + self.lost_datagrams, secrets.token_hex(32).encode())


async def keep_connection(flow: Flow, host: str, port: int) -> None:
    try:
        reader, writer = await asyncio.open_connection(host, port)
        while not flow.broken:
            request = flow.request()
            writer.write(request)
            reply = await reader.readline()
            if not reply.endswith(b"\n"):
                flow.broken = "reset: the connection was closed"
                return
            flow.receive_reply(request, reply)
            await asyncio.sleep(INTERVAL_S)
    except OSError as error:
        flow.broken = f"reset: {error}"


class Replies(asyncio.DatagramProtocol):
    """Queues what arrives. ICMP errors are passed over: UDP asks again."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.queue.put_nowait(data)

    def error_received(self, exc: Exception) -> None:
        pass


async def ask_until_answered(replies: Replies, request: bytes) -> bytes:
    """The reply to `request`; late replies to those given up are dropped."""
    while True:
        reply = await replies.queue.get()
        if reply.split(b" ", 1)[0] == request.split(b" ", 1)[0]:
            return reply


async def keep_datagrams(flow: Flow, host: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    transport, replies = await loop.create_datagram_endpoint(Replies, remote_addr=(host, port))
    while not flow.broken:
        request = flow.request()
        transport.sendto(request)
        try:
            reply = await asyncio.wait_for(ask_until_answered(replies, request), LOST_AFTER_S)
        except TimeoutError:
            flow.lost_datagrams += 1
            continue
        flow.receive_reply(request, reply)
        await asyncio.sleep(INTERVAL_S)


async def keep(flow: Flow, host: str, port: int, delay_s: float) -> None:
    """Runs one flow until it breaks. The delays spread the flows, so that some have a request under way at any time."""
    await asyncio.sleep(delay_s)
    await (keep_connection if flow.protocol == "tcp" else keep_datagrams)(flow, host, port)


def sentence(flows: list[Flow]) -> str:
    verdicts = Counter(flow.verdict().split(":")[0] for flow in flows)
    silence = max((flow.longest_silence_ms for flow in flows), default=0)
    counts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items()))
    lost = sum(flow.lost_datagrams for flow in flows)
    answers = sum(flow.answered for flow in flows)
    losses = f"{lost} datagrams lost, longest silence {silence} ms"
    return f"{len(flows)} flows: {counts}; {answers} answers, {losses}"


def print_object(flows: list[Flow]) -> None:
    print(json.dumps([asdict(flow) | {"verdict": flow.verdict()} for flow in flows]), flush=True)


def print_table(flows: list[Flow]) -> None:
    by_server: dict[tuple[str, str], list[Flow]] = {}
    for flow in flows:
        by_server.setdefault((flow.protocol, flow.server or "(nobody)"), []).append(flow)
    print(f"\n     {'server':12} {'flows':>6} {'survived':>9} {'answers':>8} {'lost':>5} {'silence ms':>11}")
    for (protocol, server), group in sorted(by_server.items()):
        survived = sum(flow.verdict() == "survived" for flow in group)
        answers = sum(flow.answered for flow in group)
        lost = sum(flow.lost_datagrams for flow in group)
        silence = max(flow.longest_silence_ms for flow in group)
        print(f"{protocol:4} {server:12} {len(group):6} {survived:9} {answers:8} {lost:5} {silence:11}")
    for flow in flows:
        if flow.verdict() != "survived":
            print(f"{flow.protocol} flow {flow.number}: {flow.verdict()}")
    print(sentence(flows))


async def report(flows: list[Flow], as_json: bool) -> None:
    while True:
        await asyncio.sleep(1)
        if as_json:
            print_object(flows)
        elif sys.stdout.isatty():
            print(f"\r\x1b[K{sentence(flows)}", end="", flush=True)
        else:
            print(sentence(flows), flush=True)


async def wait_for_end(seconds: float | None, as_json: bool) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    if as_json:
        stdin = sys.stdin.fileno()
        loop.add_reader(stdin, lambda: None if os.read(stdin, 4096) else ended.set())
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(ended.wait(), seconds)


async def run(options: argparse.Namespace) -> int:
    host, _, port = options.target.rpartition(":")
    flows = [Flow("tcp", number) for number in range(options.tcp)]
    flows += [Flow("udp", number) for number in range(options.udp)]
    tasks = [
        asyncio.create_task(keep(flow, host, int(port), INTERVAL_S * index / len(flows)))
        for index, flow in enumerate(flows)
    ]
    tasks.append(asyncio.create_task(report(flows, options.json)))
    await wait_for_end(options.seconds, options.json)
    (print_object if options.json else print_table)(flows)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return 0 if all(flow.verdict() == "survived" for flow in flows) else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    target = os.environ.get("TARGET")
    parser.add_argument("target", nargs="?", default=target, help="ADDRESS:PORT (default: $TARGET)")
    parser.add_argument("--tcp", type=int, default=20, help="connections (default: 20)")
    parser.add_argument("--udp", type=int, default=20, help="UDP flows (default: 20)")
    parser.add_argument("--seconds", type=float, help="end by itself after this long")
    parser.add_argument("--json", action="store_true", help="one array a second, until standard input ends")
    options = parser.parse_args()
    if not options.target:
        parser.error("no target: give ADDRESS:PORT or set TARGET")
    return asyncio.run(run(options))


if __name__ == "__main__":
    sys.exit(main())
