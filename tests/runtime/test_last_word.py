"""The life of the file: made anew, the dead predecessor's kept, removed at a good end."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from hasyncd.runtime.last_word import last_word_file


def test_a_good_end_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "run" / "gw-a.lastword"
    with last_word_file(path) as descriptor:
        os.write(descriptor, b"x")
        assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == []


def test_what_a_dead_predecessor_left_is_kept_once(tmp_path: Path) -> None:
    path = tmp_path / "gw-a.lastword"
    path.write_text("the dead one's")
    with last_word_file(path):
        assert path.read_bytes() == b""
        assert path.with_name("gw-a.lastword.previous").read_text() == "the dead one's"


def test_a_daemon_that_fails_leaves_its_last_word(tmp_path: Path) -> None:
    path = tmp_path / "gw-a.lastword"
    with contextlib.suppress(RuntimeError), last_word_file(path) as descriptor:
        os.write(descriptor, b"why")
        raise RuntimeError
    assert path.read_bytes() == b"why"
