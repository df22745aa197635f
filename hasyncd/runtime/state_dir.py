"""The state directory: the generation, durable, and a lock against a second daemon.

proto/pair.md §1: the generation "is kept in `state_dir/generation`, written to a new file, fsynced, renamed,
directory fsynced". A file that cannot be read is never taken for "no generation yet": a node that forgot its
generation could be outranked by an older history.
"""

from __future__ import annotations

import fcntl
import os
import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import TracebackType

GENERATION_MAX: Final = (1 << 64) - 1
_FILE_BYTES_MAX: Final = 128
_LINE: Final = re.compile(rb"(generation (0|[1-9][0-9]{0,19})) ([0-9a-f]{8})\n")


class StateDirError(Exception):
    """The state directory cannot be used; says which file and why."""


class StateDir:
    """An opened, locked state directory. A context manager; `close` releases the lock."""

    def __init__(self, path: Path) -> None:
        """Creates the directory (0700) if need be and locks it. Raises StateDirError."""
        self.path = path
        self._file = path / "generation"
        self._lock = _lock(path)

    def __enter__(self) -> StateDir:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Releases the directory. Idempotent."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def read_generation(self) -> int:
        """The last generation written; 0 when none ever was. Raises StateDirError."""
        try:
            with self._file.open("rb") as file:
                content = file.read(_FILE_BYTES_MAX)
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise StateDirError(f"{self._file}: cannot be read: {error.strerror}") from error
        match = _LINE.fullmatch(content)
        if match is None or int(match[3], 16) != zlib.crc32(match[1]) or int(match[2]) > GENERATION_MAX:
            raise StateDirError(
                f"{self._file}: is damaged; remove it only if this node was never the newest primary of its "
                "pair, or if the peer is alive"
            )
        return int(match[2])

    def write_generation(self, generation: int) -> None:
        """Makes the generation durable; blocks for the disk's time. Raises StateDirError, and then the old
        value still stands or the new one, never a mixture."""
        if not 0 <= generation <= GENERATION_MAX:
            raise StateDirError(f"{self._file}: {generation} is no generation")
        present = self.read_generation()
        if generation < present:
            raise StateDirError(f"{self._file}: the generation never goes back ({present} to {generation})")
        text = b"generation %d" % generation
        new = self.path / "generation.new"
        try:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(text + b" %08x\n" % zlib.crc32(text))
                file.flush()
                os.fsync(descriptor)
            new.rename(self._file)
            _sync_directory(self.path)
        except OSError as error:
            raise StateDirError(f"{self._file}: cannot be written: {error.strerror}") from error


def _lock(path: Path) -> int:
    """A locked descriptor of `path/lock`; the kernel releases it when the process ends, however it does."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StateDirError(f"{path}: cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise StateDirError(f"{path}: is in use by another daemon (process {holder})") from error
    except OSError as error:
        os.close(descriptor)
        raise StateDirError(f"{path}: cannot be locked: {error.strerror}") from error
    return descriptor


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
