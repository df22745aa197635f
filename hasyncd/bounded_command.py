"""A command of the operator's that judges something: bounded in time, in what it leaves running and in what it says."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from typing import Final

_WORDS_KEPT: Final = 120


async def judge_command(
    command: Sequence[str], timeout_s: float, environment: Mapping[str, str] | None = None
) -> tuple[bool, str]:
    """Whether a command ends with 0 in time, and why it is said to; no shell reads it.

    What runs longer, or is cancelled, is killed with all that it began. None as `environment`: this process's own.
    Raises OSError where it cannot be run.
    """
    # Our own pipe: what a command leaves running may keep it open, and nobody waits for that.
    listening, saying = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=saying,
                start_new_session=True,
                env=environment,
            )
        finally:
            os.close(saying)
        try:
            async with asyncio.timeout(timeout_s):
                code = await process.wait()
        except TimeoutError:
            return False, f"{command[0]} had not ended after {timeout_s * 1000:g} ms"
        finally:
            # The group outlives its leader as long as one of its processes does.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        words = _read_some(listening)
    finally:
        os.close(listening)
    if code == 0:
        return True, f"{command[0]} ended with 0"
    said = words.decode(errors="replace").strip().splitlines()
    end = f"signal {-code}" if code < 0 else str(code)
    return False, f"{command[0]} ended with {end}" + (f": {said[0]}" if said else "")


def _read_some(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _WORDS_KEPT)
    except BlockingIOError:
        return b""
