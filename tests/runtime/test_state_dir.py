"""The generation survives; what is damaged is never taken for nothing."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from hasyncd.runtime.state_dir import GENERATION_MAX, StateDir, StateDirError


def test_without_a_file_the_generation_is_zero(tmp_path: Path) -> None:
    with StateDir(tmp_path / "new" / "state") as state:
        assert state.read_generation() == 0
    assert stat.S_IMODE((tmp_path / "new" / "state").stat().st_mode) == 0o700


def test_what_was_written_is_read_by_the_next_process(tmp_path: Path) -> None:
    with StateDir(tmp_path) as state:
        for generation in (1, 2, 2, 700, GENERATION_MAX):
            state.write_generation(generation)
            assert state.read_generation() == generation
    with StateDir(tmp_path) as state:
        assert state.read_generation() == GENERATION_MAX
    assert sorted(path.name for path in tmp_path.iterdir()) == ["generation", "lock"]


def test_the_generation_never_goes_back(tmp_path: Path) -> None:
    with StateDir(tmp_path) as state:
        state.write_generation(7)
        with pytest.raises(StateDirError, match="never goes back"):
            state.write_generation(6)
        for impossible in (-1, GENERATION_MAX + 1):
            with pytest.raises(StateDirError, match="no generation"):
                state.write_generation(impossible)
        assert state.read_generation() == 7


def test_file_and_directory_are_synced_around_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    sync, rename = os.fsync, Path.rename

    def record_sync(descriptor: int) -> None:
        steps.append(f"fsync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        sync(descriptor)

    def record_rename(path: Path, target: Path) -> Path:
        steps.append(f"rename {path.name} to {target.name}")
        return rename(path, target)

    with StateDir(tmp_path) as state:
        monkeypatch.setattr(os, "fsync", record_sync)
        monkeypatch.setattr(Path, "rename", record_rename)
        state.write_generation(1)
    assert steps == [
        "fsync generation.new",
        "rename generation.new to generation",
        f"fsync {tmp_path.name}",
    ]


def test_a_write_that_died_halfway_leaves_the_old_generation(tmp_path: Path) -> None:
    with StateDir(tmp_path) as state:
        state.write_generation(3)
        (tmp_path / "generation.new").write_text("generat")
        assert state.read_generation() == 3
        state.write_generation(4)
        assert state.read_generation() == 4


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"7\n",
        b"generation 7\n",
        b"generation 7 00000000\n",
        b"generation 07 0f7c9d58\n",
        b"\xff\xfe",
        b"x" * 4096,
    ],
)
def test_a_damaged_file_is_an_error_and_stays(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "generation").write_bytes(content)
    with StateDir(tmp_path) as state:
        with pytest.raises(StateDirError, match="generation: is damaged"):
            state.read_generation()
        with pytest.raises(StateDirError, match="is damaged"):
            state.write_generation(9)
    assert (tmp_path / "generation").read_bytes() == content


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    with StateDir(tmp_path) as state:
        state.write_generation(123_456)
        content = (tmp_path / "generation").read_bytes()
        for place in range(len(content) * 8):
            damaged = bytearray(content)
            damaged[place // 8] ^= 1 << place % 8
            (tmp_path / "generation").write_bytes(damaged)
            with pytest.raises(StateDirError):
                state.read_generation()


def test_an_unreadable_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "generation").mkdir()
    with StateDir(tmp_path) as state, pytest.raises(StateDirError, match="cannot be read: Is a directory"):
        state.read_generation()


def test_a_failed_write_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "generation.new").mkdir()
    with StateDir(tmp_path) as state, pytest.raises(StateDirError, match="cannot be written"):
        state.write_generation(1)


def test_a_directory_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateDirError, match="file/state: cannot be used"):
        StateDir(tmp_path / "file" / "state")


def test_a_second_daemon_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from hasyncd.runtime.state_dir import StateDir\n"
        "state = StateDir(pathlib.Path(sys.argv[1])); print('locked', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "locked\n"
        with pytest.raises(StateDirError, match=rf"in use by another daemon \(process {first.pid}\)"):
            StateDir(tmp_path)
        first.kill()
        first.wait()
    StateDir(tmp_path).close()


def test_closing_twice_is_closing_once(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    state.close()
    state.close()
    StateDir(tmp_path).close()
