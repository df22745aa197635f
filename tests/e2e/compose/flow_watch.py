"""What a container's `flows.py` says of its flows, read while it runs."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.e2e.compose.engine import Engine


@dataclass(frozen=True, slots=True)
class FlowState:
    """One flow of deploy/compose/flows.py; `source` is what the far end sees."""

    answered: int
    server: str
    source: str
    verdict: str
    broken: str | None


FlowName = tuple[str, int]
"""Protocol and number."""


class FlowWatch:
    """`flows.py --json` in a container, started on entering, ended on leaving."""

    def __init__(self, engine: Engine, container: str, tcp: int, udp: int, errors: Path) -> None:
        self._errors: IO[bytes] = errors.open("wb")
        command = ["exec", "-i", container, "./flows.py", "--json", "--tcp", str(tcp), "--udp", str(udp)]
        self._process = engine.popen(*command, stderr=self._errors)
        self._latest: dict[FlowName, FlowState] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> FlowWatch:
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._latest = {
                (flow["protocol"], flow["number"]): FlowState(
                    flow["answered"], flow["server"], flow["source"], flow["verdict"], flow["broken"]
                )
                for flow in json.loads(line)
            }

    def flows(self) -> dict[FlowName, FlowState]:
        """As of the last line, about a second old at most. Raises AssertionError if the client has ended."""
        assert self._process.poll() is None, f"flows.py ended with {self._process.returncode}"
        return self._latest

    def finish(self) -> int:
        """Ends the client and returns its exit code: 0 when it judged every flow *survived*."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        code = self._process.wait(timeout=60)
        self._reader.join(timeout=60)
        self._process.stdout.close()
        self._errors.close()
        return code
