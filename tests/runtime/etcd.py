"""A real etcd for the tests: Debian's, one member, its data in a directory that goes with it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

PATIENCE_S = 60.0


def free_port(address: str = "127.0.0.1") -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


class Etcd:
    """One member. `command` goes before it: the namespace it lives in."""

    def __init__(
        self, address: str = "127.0.0.1", ports: tuple[int, int] | None = None, command: tuple[str, ...] = ()
    ) -> None:
        program = shutil.which("etcd")
        assert program, "etcd is not installed: tests/run installs Debian's etcd-server"
        client, peer = ports or (free_port(), free_port())
        self.endpoint = f"http://{address}:{client}"
        self._directory = tempfile.TemporaryDirectory(prefix="hs-etcd-")
        member = f"http://{address}:{peer}"
        self._command = [
            *command, program, "--name", "w", "--data-dir", f"{self._directory.name}/data",
            "--listen-client-urls", self.endpoint, "--advertise-client-urls", self.endpoint,
            "--listen-peer-urls", member, "--initial-advertise-peer-urls", member,
            "--initial-cluster", f"w={member}",
        ]  # fmt: skip
        self._log = Path(self._directory.name) / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def wait_healthy(self) -> None:
        """It takes writes; only for one that this process can reach."""
        deadline = time.monotonic() + PATIENCE_S
        while not self._is_healthy():
            assert self._process
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.02)

    def _is_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.endpoint}/health", timeout=1) as answer:
                return bool(json.load(answer)["health"] == "true")
        except OSError:
            return False

    def signal(self, number: int) -> None:
        assert self._process
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.signal(signal.SIGKILL)
            self._process.wait(PATIENCE_S)

    def close(self) -> None:
        self.kill()
        self._directory.cleanup()
