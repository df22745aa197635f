"""The repository's docker-compose.yml, up: its containers by the names of their services."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from tests.e2e.compose.engine import Engine, EngineError
from tests.e2e.compose.flow_watch import FlowWatch

ROOT = Path(__file__).resolve().parents[3]
NODES = {"primary": "gw-a", "backup": "gw-b"}
"""The gateways' services, named after the roles that they have at first, and their nodes."""
PATIENCE_SECONDS = 60
"""For conditions that take a second or two: a bound on hanging, not on speed."""

Value = TypeVar("Value")


def is_ready(state: Mapping[str, Any]) -> bool:
    return (state["peer"]["state"], state["sync"]["state"]) == ("connected", "ready")


class Project:
    """Up between `up` and `down`. Its methods raise EngineError, and AssertionError for what does not come true."""

    def __init__(self, engine: Engine, logs: Path) -> None:
        self.engine = engine
        self.logs = logs
        self._containers: dict[str, str] = {}

    def compose(self, *arguments: str, timeout: float = 120) -> str:
        files = ("--project-directory", str(ROOT), "--file", str(ROOT / "docker-compose.yml"))
        return self.engine.docker("compose", *files, *arguments, timeout=timeout)

    def up(self) -> None:
        # The engine has no bridge of its own for the build, so the build borrows the machine's network.
        options = ("--network=host", "--file", str(ROOT / "deploy/Dockerfile"), "--tag", "hasyncd")
        self.engine.docker("build", *options, str(ROOT), timeout=600)
        self.compose("up", "--detach", "--no-build")

    def down(self) -> None:
        self.compose("down", "--volumes", "--timeout", "2")

    def save_logs(self) -> None:
        with contextlib.suppress(EngineError):
            (self.logs / "containers.log").write_text(self.compose("logs", "--no-color", "--timestamps"))

    def container(self, service: str) -> str:
        """The identifier of a service's container, the same until `down`."""
        if service not in self._containers:
            self._containers[service] = self.compose("ps", "--all", "--quiet", service).strip()
        return self._containers[service]

    def status(self, service: str) -> dict[str, Any] | None:
        """`hasyncd status --json` inside a container; None while nothing answers there."""
        try:
            answer = self.engine.docker("exec", self.container(service), "hasyncd", "status", "--json")
        except EngineError:
            return None
        decoded: dict[str, Any] = json.loads(answer)
        return decoded

    def kill(self, service: str) -> None:
        """SIGKILL for everything in the container."""
        self.engine.docker("kill", "--signal", "KILL", self.container(service))

    def pause(self, service: str) -> None:
        """Freezes everything in the container: alive and silent."""
        self.engine.docker("pause", self.container(service))

    def resume(self, service: str) -> None:
        self.engine.docker("unpause", self.container(service))

    def cut(self, service: str, network: str) -> None:
        """Takes the container's interface on that network away."""
        self.engine.docker("network", "disconnect", f"hasyncd_{network}", self.container(service))

    def mend(self, service: str, network: str, address: str) -> None:
        self.engine.docker(
            "network", "connect", "--ip", address, f"hasyncd_{network}", self.container(service)
        )

    def replace(self, service: str) -> None:
        """A new container of the newest image, with the old one's volumes, as an upgrade makes it."""
        self.compose("up", "--detach", "--no-build", "--no-deps", "--force-recreate", service)
        self._containers.pop(service, None)

    def inspect(self, service: str, what: str) -> str:
        return self.engine.docker("inspect", "--format", what, self.container(service)).strip()

    def stop(self, service: str) -> int:
        """SIGTERM and patience; the exit code."""
        self.compose("stop", service)
        return int(self.engine.docker("inspect", "--format", "{{.State.ExitCode}}", self.container(service)))

    def start(self, service: str) -> None:
        self.engine.docker("start", self.container(service))

    def watch(self, service: str, *, tcp: int, udp: int) -> FlowWatch:
        return FlowWatch(self.engine, self.container(service), tcp, udp, self.logs / f"{service}.err")

    def wait_until(self, what: str, read: Callable[[], Value], holds: Callable[[Value], bool]) -> Value:
        """Reads until it holds and returns what was read; fails with the last thing read."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not holds(value := read()):
            if time.monotonic() > deadline:
                raise AssertionError(f"not in {PATIENCE_SECONDS} s: {what}; last: {value}\n{self.tail()}")
            time.sleep(0.2)
        return value

    def wait_for_pair(self) -> tuple[str, str]:
        """Waits for one primary and one backup that hear each other and are synchronised; (primary, backup)."""

        def read() -> dict[str, dict[str, Any] | None]:
            return {service: self.status(service) for service in NODES}

        def in_place(states: dict[str, dict[str, Any] | None]) -> bool:
            ready = [state for state in states.values() if state and is_ready(state)]
            return sorted(state["role"] for state in ready) == ["backup", "primary"]

        states = self.wait_until("one primary and one backup, both ready", read, in_place)
        by_role = {state["role"]: service for service, state in states.items() if state}
        return by_role["primary"], by_role["backup"]

    def tail(self) -> str:
        return self.compose("logs", "--no-color", "--tail", "30", *NODES)
