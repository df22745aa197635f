"""The control socket without blocking: the lab asks while traffic runs and clocks tick."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any


class Unreachable(Exception):
    """Nobody answers at the socket, or the answer broke off."""


async def ask(
    path: Path, verb: str, timeout_s: float = 5.0, **arguments: object
) -> tuple[list[dict[str, Any]], int, str]:
    """One request: (objects, exit code, message). Raises Unreachable."""
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_unix_connection(path, limit=1 << 22)
            try:
                writer.write(json.dumps({"verb": verb, **arguments}).encode() + b"\n")
                items: list[dict[str, Any]] = []
                while line := await reader.readline():
                    item = json.loads(line)
                    if item.get("end") is True:
                        return items, int(item["exit"]), str(item.get("message", ""))
                    items.append(item)
            finally:
                writer.close()
    except (OSError, ValueError, TimeoutError) as error:
        raise Unreachable(f"{path}: {error}") from error
    raise Unreachable(f"{path}: the answer broke off")
