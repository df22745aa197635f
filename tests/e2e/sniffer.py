"""Writes down what passes an interface, as a capture file for tshark."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.datapath.namespaces import Namespace
from tests.proto.wireshark import ETHERNET, write_capture

_EVERYTHING = 0x0003
"""ETH_P_ALL of linux/if_ether.h."""


@contextmanager
def captured(namespace: Namespace, interface: str, path: Path) -> Iterator[None]:
    """Everything that passes meanwhile stands in `path` afterwards."""
    packets: list[bytes] = []
    over = threading.Event()
    with namespace.entered():
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_EVERYTHING))
    with tap:
        tap.bind((interface, 0))

        def take() -> None:
            while select.select([tap], [], [], 0)[0]:
                packets.append(tap.recv(1 << 18))

        def listen() -> None:
            while not over.is_set():
                select.select([tap], [], [], 0.1)
                take()

        listener = threading.Thread(target=listen)
        listener.start()
        try:
            yield
        finally:
            over.set()
            listener.join()
    write_capture(path, packets, ETHERNET)
