"""The log of NAT mappings on its way from the engine's ring into a file.

Lines are made in C; here they move in whole chunks, written in a thread so that a slow disk stalls nothing. One write
is under way at a time: what comes meanwhile waits in the engine's ring, and what does not fit there is counted by a
line of the log itself. A file that was renamed away or removed is noticed before the next write; a disk that is full
is tried again. The mode of a new file is 0640: it says who talked when.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from hasyncd.datapath.packet import Engine

RING_BYTES: Final = 4 << 20
"""Some 30,000 lines: what a write may keep waiting."""
WRITE_EVERY_S: Final = 0.05


class MappingLog:
    """Raises OSError when it is made and the file cannot be opened."""

    def __init__(
        self, path: Path, engine: Engine, node: str, report: Callable[[str, str], None], *, destinations: bool
    ) -> None:
        self._path = path
        self._engine = engine
        self._node = node
        self._report = report
        self._file = self._open()
        self._pending = b""
        self._failed = False
        self._writing: asyncio.Future[bytes] | None = None
        engine.open_mapping_log(RING_BYTES, destinations)
        self._take()

    def tell_promotion(self, generation: int) -> None:
        """From here on the mappings are this node's: whoever reads both nodes' logs joins them by the generation."""
        self._take()
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "event": "primary",
            "node": self._node,
            "generation": generation,
        }
        self._pending += json.dumps(line, separators=(",", ":")).encode() + b"\n"

    def write(self) -> None:
        """Starts to write what waits, unless a write is under way. Called often; returns at once."""
        if self._writing:
            return
        self._take()
        if self._pending:
            chunk, self._pending = self._pending, b""
            self._writing = asyncio.get_running_loop().run_in_executor(None, self._append, chunk)
            self._writing.add_done_callback(self._written)

    async def close(self) -> None:
        """Writes what is left, as far as the disk takes it."""
        if self._writing:
            await asyncio.wait([self._writing])
            self._written(self._writing)
        self._take()
        self._append(self._pending)
        os.close(self._file)

    def _written(self, done: asyncio.Future[bytes]) -> None:
        if self._writing is not done:
            return  # `close` was here before
        self._writing = None
        rest = done.result()
        self._pending = rest + self._pending
        if rest and not self._failed:
            self._report(
                "mapping_log_failed", f"{self._path} does not take the log of mappings; it is tried again"
            )
        self._failed = bool(rest)

    def _take(self) -> None:
        ahead_ns = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        while len(self._pending) < RING_BYTES and (lines := self._engine.take_mappings(ahead_ns)):
            self._pending += lines

    # --- in the thread: only these touch the file while a write is under way ---------------------------------

    def _append(self, chunk: bytes) -> bytes:
        """What the disk did not take."""
        try:
            self._follow_rotation()
            while chunk:
                chunk = chunk[os.write(self._file, chunk) :]
        except OSError:
            pass
        return chunk

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def _follow_rotation(self) -> None:
        ours = os.fstat(self._file)
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            there = None
        if there and (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
            return
        fresh = self._open()
        os.close(self._file)
        self._file = fresh
