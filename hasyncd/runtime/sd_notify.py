"""Telling systemd how the service is: sd_notify(3) and the watchdog, without a library.

Outside systemd, or where its socket has gone, nothing happens: a supervisor that does not listen is no
reason to stop forwarding.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


class ServiceNotifier:
    """Sends state datagrams to NOTIFY_SOCKET; silent where there is none."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        environment = os.environ if environment is None else environment
        address = environment.get("NOTIFY_SOCKET", "")
        # "@" stands for the zero byte of an abstract address.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_interval_s = _watchdog_interval_s(environment)
        """How often to call `watchdog`: half of what systemd tolerates; None: it does not watch."""

    def ready(self, status: str = "") -> bool:
        """The service answers. Each method returns whether the datagram was sent."""
        return self._send("READY=1", f"STATUS={status}" if status else "", f"MAINPID={os.getpid()}")

    def stopping(self) -> bool:
        """The service is shutting down."""
        return self._send("STOPPING=1")

    def watchdog(self) -> bool:
        """The service is alive; call it from the loop whose stall systemd shall notice."""
        return self._send("WATCHDOG=1")

    def status(self, text: str) -> bool:
        """One line for `systemctl status`."""
        return self._send(f"STATUS={text}")

    def _send(self, *assignments: str) -> bool:
        if not self._address:
            return False
        # A line break would begin another assignment.
        message = "\n".join(line.replace("\n", " ") for line in assignments if line)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notifier:
                notifier.setblocking(False)
                notifier.sendto(message.encode(), self._address)
        except OSError:
            return False
        return True


def _watchdog_interval_s(environment: Mapping[str, str]) -> float | None:
    try:
        watched_us = int(environment.get("WATCHDOG_USEC", ""))
    except ValueError:
        return None
    watched_process = environment.get("WATCHDOG_PID", "")
    if watched_us <= 0 or (watched_process and watched_process != str(os.getpid())):
        return None
    return watched_us / 2_000_000
