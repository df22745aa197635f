"""A killed process with much memory: its sockets close before the memory is freed, and nothing of it stays."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

_MEMORY_BYTES = 256 << 20
_PROGRAM = """
import mmap, os, socket, sys
from hasyncd.datapath.packet import start_memory_keeper
keeper = start_memory_keeper()
memory = mmap.mmap(-1, int(sys.argv[1]), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for page in range(0, len(memory), 4096):
    memory[page] = 1
listener = socket.create_server(("127.0.0.1", 0))
print(keeper, listener.getsockname()[1], flush=True)
connection = listener.accept()[0]
connection.send(b"!")
connection.recv(1)
os._exit(7)
"""


@pytest.fixture
def process() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", _PROGRAM, str(_MEMORY_BYTES)], stdout=subprocess.PIPE)


def begin(process: subprocess.Popen[bytes]) -> tuple[int, socket.socket]:
    """The keeper's pid, and a connection to the process."""
    assert process.stdout
    keeper, port = map(int, process.stdout.readline().split())
    connection = socket.create_connection(("127.0.0.1", port))
    connection.settimeout(30)
    assert connection.recv(1) == b"!", "accepted: one that is not would be reset"
    deadline = time.monotonic() + 30
    while len(os.listdir(f"/proc/{keeper}/fd")) != 1:  # the pidfd it waits at; it has begun
        assert time.monotonic() < deadline, "the keeper has a copy of a file"
        time.sleep(0.01)
    return keeper, connection


def state(pid: int) -> str | None:
    try:
        return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


def until_gone(pid: int) -> None:
    deadline = time.monotonic() + 30
    while state(pid) not in (None, "Z"):  # a zombie where nobody waits for orphans
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.01)


def test_a_killed_process_closes_its_sockets_while_its_memory_is_held(
    process: subprocess.Popen[bytes],
) -> None:
    with process:
        keeper, connection = begin(process)
        assert Path("/proc", str(keeper), "comm").read_text() == "hasyncd-memory\n"
        os.kill(keeper, signal.SIGSTOP)  # it holds the memory as long as we like
        try:
            process.kill()
            with connection:
                assert connection.recv(1) == b"", "the end of the stream"
            assert process.wait(30) == -signal.SIGKILL
            held = Path("/proc", str(keeper), "statm").read_text().split()
            assert int(held[1]) * 4096 > _MEMORY_BYTES, "not a page was freed yet"
        finally:
            os.kill(keeper, signal.SIGCONT)
        until_gone(keeper)


def test_the_keeper_has_no_copy_of_a_file_and_heeds_no_signal_but_kill(
    process: subprocess.Popen[bytes],
) -> None:
    with process:
        keeper, connection = begin(process)
        with connection:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                os.kill(keeper, number)
            time.sleep(0.05)
            assert state(keeper) == "S"
            os.kill(keeper, signal.SIGKILL)
            connection.send(b"x")
            assert process.wait(30) == 7, "without it the process goes on"


def test_the_keeper_ends_with_a_process_that_ends_by_itself(process: subprocess.Popen[bytes]) -> None:
    with process:
        keeper, connection = begin(process)
        with connection:
            connection.send(b"x")
            assert process.wait(30) == 7
        until_gone(keeper)
