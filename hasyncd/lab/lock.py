"""One lab at a time on a machine: the gateways' control sockets have fixed names."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType

from hasyncd.lab.namespaces import LabError

LOCK_FILE = Path("/run/lock/hasyncd-lab.lock")
STATE_FILE = Path("/run/lock/hasyncd-lab.json")


@dataclass(frozen=True, slots=True)
class KeptLab:
    """A lab that `hasyncd lab up` left standing."""

    lab_id: int
    directory: str
    pids: list[int] = field(default_factory=list)

    def save(self) -> None:
        """Makes it known to later commands."""
        STATE_FILE.write_text(json.dumps(asdict(self)))


def read_kept_lab() -> KeptLab | None:
    """The lab that stands, if one does."""
    try:
        return KeptLab(**json.loads(STATE_FILE.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def forget_kept_lab() -> None:
    """After it was taken down."""
    STATE_FILE.unlink(missing_ok=True)


class LabLock:
    """Held by the process that builds or uses a lab; the kernel frees it however that process ends."""

    def __enter__(self) -> LabLock:
        """Raises LabError when another process holds it, or without root."""
        if os.geteuid() != 0:
            raise LabError("the lab needs root: it makes network namespaces")
        LOCK_FILE.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 32, 0).decode(errors="replace").strip()
            os.close(self._descriptor)
            raise LabError(
                f"another lab runs on this machine (process {holder or 'unknown'}); wait for its end"
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
