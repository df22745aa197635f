"""Who sits at the peer's address and says what no hasyncd would say: raw sockets, frames and heartbeats."""

from __future__ import annotations

import dataclasses
import itertools
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import msgpack

from hasyncd.core.messages import HEARD_NEVER, PROTOCOL, Frame, Heartbeat, Hello, SyncBegin
from hasyncd.core.types import Role
from hasyncd.core.wire import encode_frame, encode_heartbeat
from tests.datapath.namespaces import Namespace
from tests.e2e.world import PATIENCE_S, PORT

CAPACITY = 4096
BEAT = Heartbeat(
    protocol=PROTOCOL, node="gw-b", boot_id=1, counter=1, role=Role.PRIMARY, generation=1,
    priority=250, leaving=False, ready=False, solo=True, sent_ns=1, echo_boot_id=0, echo_sent_ns=0,
    heard_ms=HEARD_NEVER, ack_boot_id=0, ack_sequence=0, head_sequence=0, flow_count=0, digest_sequence=0,
    digest=0, config_hash=bytes(8),
)  # fmt: skip


def framed(fields: object) -> bytes:
    """Any value as a frame, also one that no encoder of ours would make."""
    body: bytes = msgpack.packb(fields, use_bin_type=True)
    return struct.pack(">I", len(body)) + body


class HostilePeer:
    """Sockets in the peer's namespace, bound to `address`. Each one is a new process with a longer history."""

    _lives = itertools.count(1)

    def __init__(self, namespace: Namespace, address: str, target: str) -> None:
        self._namespace, self._address, self._target = namespace, address, (target, PORT)
        with namespace.entered():
            self._datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            # Somebody listens there, or the end of each stream would prove the peer's death.
            self._listener = socket.create_server((address, PORT))
        self._datagrams.bind((address, PORT))
        self._counter = 0
        self.life = next(self._lives)
        self.generation = 1000 * self.life
        self.hello = Hello(PROTOCOL, "gw-b", self.life, self.generation, bytes(8), CAPACITY, bytes(16), 1)
        self.begin = SyncBegin(self.generation, 1, 0)

    def close(self) -> None:
        self._datagrams.close()
        self._listener.close()

    # --- streams --------------------------------------------------------------------------------

    def connect(self) -> socket.socket:
        with self._namespace.entered():
            stream = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        stream.settimeout(PATIENCE_S)
        stream.bind((self._address, 0))
        stream.connect(self._target)
        return stream

    def say(self, *what: bytes | Frame, finish: bool = False) -> bytes:
        """Says it on a new stream and reads until the daemon closes it; what it answered.

        `finish`: closes the own half first, as one who is cut off.
        """
        answer = b""
        with self.connect() as stream:
            try:
                for number, each in enumerate(what, 1):
                    stream.sendall(each if isinstance(each, bytes) else encode_frame(each))
                    # A primary that says more before it was answered would be out of its place.
                    if isinstance(each, Hello) and number < len(what):
                        answer += stream.recv(65_536)
                if finish:
                    stream.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # closed before we had finished: that is its right
            try:
                while data := stream.recv(65_536):
                    answer += data
            except ConnectionError:
                pass
            return answer

    # --- heartbeats -----------------------------------------------------------------------------

    def beat(self, *datagrams: bytes) -> None:
        for datagram in datagrams:
            self._datagrams.sendto(datagram, self._target)

    def next_beat(self, **changes: object) -> bytes:
        """A heartbeat that is valid but for `changes`."""
        self._counter += 1
        fields = {"counter": self._counter, "boot_id": self.life, "generation": self.generation} | changes
        return encode_heartbeat(dataclasses.replace(BEAT, **fields))  # type: ignore[arg-type]

    @contextmanager
    def primary(self) -> Iterator[None]:
        """Beats as the primary of the longest history, so that the daemon follows and takes its streams."""
        ended = threading.Event()

        def beat_on() -> None:
            while not ended.wait(0.02):
                self.beat(self.next_beat())

        thread = threading.Thread(target=beat_on)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
