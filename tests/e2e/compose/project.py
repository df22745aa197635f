"""The repository's docker-compose.yml, up: its containers by the names of their services."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tests.e2e.compose.engine import Engine, EngineError
from tests.e2e.compose.flow_watch import FlowWatch

ROOT = Path(__file__).resolve().parents[3]
GATEWAYS = ("primary", "backup")
PATIENCE_SECONDS = 60
"""For conditions that take a second or two: a bound on hanging, not on speed."""

Value = TypeVar("Value")


class Project:
    def __init__(self, engine: Engine, logs: Path) -> None:
        self.engine = engine
        self.logs = logs

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
        return self.compose("ps", "--all", "--quiet", service).strip()

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

    def wait_for_roles(self, *, primary: str, backup: str) -> None:
        """Until one service's node is primary, the other's its backup, and everything is synchronised."""
        services = {primary: "primary", backup: "backup"}

        def in_place(states: dict[str, dict[str, Any] | None]) -> bool:
            return all(
                state is not None
                and state["role"] == services[service]
                and state["peer"]["state"] == "connected"
                and state["sync"]["state"] == "ready"
                for service, state in states.items()
            )

        def read() -> dict[str, dict[str, Any] | None]:
            return {service: self.status(service) for service in services}

        self.wait_until(f"{primary} primary and {backup} backup, both ready", read, in_place)

    def tail(self) -> str:
        return self.compose("logs", "--no-color", "--tail", "30", *GATEWAYS)
