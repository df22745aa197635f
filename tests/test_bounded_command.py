"""Commands of the operator's: what they end with, what they say, and that nothing of them is left."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest

from hasyncd.bounded_command import judge_command


async def test_a_command_that_ends_with_0_is_good() -> None:
    assert await judge_command(["/bin/true"], 30) == (True, "/bin/true ended with 0")


async def test_what_a_failed_command_said_first_is_the_reason() -> None:
    script = "import sys; sys.stderr.write('the disk is full\\nand more'); sys.exit(3)"
    verdict = await judge_command([sys.executable, "-c", script], 30)
    assert verdict == (False, f"{sys.executable} ended with 3: the disk is full")


async def test_a_command_killed_by_a_signal_is_bad() -> None:
    verdict = await judge_command([sys.executable, "-c", "import os; os.kill(os.getpid(), 15)"], 30)
    assert verdict == (False, f"{sys.executable} ended with signal 15")


async def test_a_command_that_takes_too_long_is_killed_with_its_children(tmp_path: Path) -> None:
    noted = tmp_path / "pid"
    script = f"sleep 1000 & echo $! > {noted}; wait"
    verdict = await judge_command(["/bin/sh", "-c", script], 1.0)
    assert verdict == (False, "/bin/sh had not ended after 1000 ms")
    child = int(noted.read_text())
    deadline = time.monotonic() + 30
    while alive(child):
        assert time.monotonic() < deadline, "its child lives on"
        await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_a_command_that_leaves_a_child_with_its_words_open_has_ended() -> None:
    assert (await judge_command(["/bin/sh", "-c", "sleep 1000 & exit 0"], 30))[0] is True


async def test_a_command_that_is_not_there_raises_what_the_kernel_said() -> None:
    with pytest.raises(FileNotFoundError):
        await judge_command(["/nowhere/to/be/found"], 30)


async def test_no_shell_reads_a_command() -> None:
    assert (await judge_command(["/bin/test", "$HOME", "=", "$HOME"], 30))[0] is True


async def test_no_descriptor_stays_open() -> None:
    await judge_command(["/bin/true"], 30)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        await judge_command(["/bin/true"], 30)
    assert len(os.listdir("/proc/self/fd")) == before


async def test_its_environment_is_what_it_is_given() -> None:
    verdict = await judge_command(
        ["/bin/sh", "-c", 'test -z "$HOME" && test "$BACKEND" = 7'], 30, {"BACKEND": "7"}
    )
    assert verdict[0] is True


async def test_much_that_it_says_neither_blocks_it_nor_is_kept() -> None:
    script = "import os\ntry:\n  while True: os.write(2, b'x' * 4096)\nexcept BlockingIOError: os._exit(4)"
    good, why = await judge_command([sys.executable, "-c", script], 30)
    assert (good, len(why) < 300) == (False, True)
