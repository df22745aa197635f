"""The file that is the delta log's memory, so that a killed node's last word can be read (proto/last_word.md)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def last_word_file(path: Path) -> Iterator[int]:
    """A new file's descriptor, open for reading and writing. A dead predecessor's becomes `PATH.previous`.

    A node that ends in good order has no last word: its file is removed. Raises OSError.
    """
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        path.rename(path.with_name(path.name + ".previous"))
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
    path.unlink(missing_ok=True)
