"""What systemd is told."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hasyncd.runtime.sd_notify import ServiceNotifier


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.settimeout(10)
        listening.bind(str(tmp_path / "notify"))
        yield listening


def test_tells_ready_stopping_status_and_watchdog(supervisor: socket.socket) -> None:
    notifier = ServiceNotifier({"NOTIFY_SOCKET": supervisor.getsockname()})
    assert notifier.ready("backup, generation 7")
    assert supervisor.recv(1024).decode().splitlines() == [
        "READY=1",
        "STATUS=backup, generation 7",
        f"MAINPID={os.getpid()}",
    ]
    assert notifier.stopping()
    assert supervisor.recv(1024) == b"STOPPING=1"
    assert notifier.watchdog()
    assert supervisor.recv(1024) == b"WATCHDOG=1"
    assert notifier.status("primary\nWATCHDOG=trigger")
    assert supervisor.recv(1024) == b"STATUS=primary WATCHDOG=trigger"


def test_speaks_to_an_abstract_socket() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.settimeout(10)
        listening.bind(f"\0hasyncd-test-{os.getpid()}")
        assert ServiceNotifier({"NOTIFY_SOCKET": f"@hasyncd-test-{os.getpid()}"}).watchdog()
        assert listening.recv(1024) == b"WATCHDOG=1"


def test_outside_systemd_or_after_it_nothing_happens(tmp_path: Path) -> None:
    assert not ServiceNotifier({}).ready()
    assert not ServiceNotifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()


@pytest.mark.parametrize(
    ("environment", "interval_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "3000000"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_wants_half_its_time(environment: dict[str, str], interval_s: float | None) -> None:
    assert ServiceNotifier(environment).watchdog_interval_s == interval_s
