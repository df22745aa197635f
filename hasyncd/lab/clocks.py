"""Wall clocks of nodes that can be stepped while they run, each for itself.

CLOCK_REALTIME belongs to the whole machine: time namespaces leave it alone, and `settimeofday` would move the clock of
whoever runs a drill. So each node is started with a small library in front of the C library (`stepped_clock.c`), which
adds what a file says whenever the wall clock is read. What no library sees are timers that the kernel itself runs by
CLOCK_REALTIME: `wall_clock_timers` looks whether a process has any.
"""

from __future__ import annotations

import re
import struct
import subprocess
from pathlib import Path

from hasyncd.lab.namespaces import LabError

_SOURCE = Path(__file__).with_name("stepped_clock.c")
_CLOCK_REALTIME = 0
_TIMER = re.compile(r"^ClockID: (\d+)$|^clockid: (\d+)$", re.MULTILINE)


class Clocks:
    """Library and clocks lie in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._library = directory / "stepped_clock.so"

    def build(self) -> None:
        """Makes the library. Raises LabError where there is no C compiler."""
        command = ["cc", "-O2", "-shared", "-fPIC", "-o", str(self._library), str(_SOURCE), "-ldl"]
        try:
            built = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError as error:
            raise LabError("clock-step needs a C compiler (Debian package gcc)") from error
        if built.returncode != 0:
            raise LabError(f"clock-step's library could not be built: {built.stderr.strip()}")

    def environment(self, name: str) -> dict[str, str]:
        """What a node has to be started with."""
        self.set(name, 0)
        return {"LD_PRELOAD": str(self._library), "HASYNCD_LAB_CLOCK": str(self._file(name))}

    def set(self, name: str, offset_s: float) -> None:
        """From now on a node's wall clock is off by so many seconds."""
        value = struct.pack("q", int(offset_s * 1e9))
        file = self._file(name)
        if not file.exists():
            file.write_bytes(bytes(16))
        with file.open("r+b") as clock:
            clock.write(value)

    def reads(self, name: str) -> int:
        """How often a node has read its wall clock."""
        return int(struct.unpack("qQ", self._file(name).read_bytes())[1])

    def _file(self, name: str) -> Path:
        return self._directory / f"{name}.clock"


def wall_clock_timers(pid: int) -> list[str]:
    """Timers of a process that the kernel runs by CLOCK_REALTIME: POSIX timers and timerfds."""
    found = []
    for file in (Path(f"/proc/{pid}/timers"), *Path(f"/proc/{pid}/fdinfo").iterdir()):
        try:
            text = file.read_text()
        except OSError:
            continue  # closed meanwhile
        clocks = [int(posix or other) for posix, other in _TIMER.findall(text)]
        found += [str(file)] * clocks.count(_CLOCK_REALTIME)
    return found
