"""`hasyncd keygen`: what an operator types, and what the node says of keys that it cannot use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hasyncd import cli
from hasyncd.config import load
from hasyncd.runtime.pair_keys import load_pair_keys

EXAMPLE = Path(__file__).parents[2] / "deploy" / "hasyncd.example.toml"


def test_the_keys_of_gw_a_and_gw_b_are_made_and_what_to_copy_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["keygen", str(tmp_path / "keys")]) == 0
    told = capsys.readouterr().out
    for node, peer in (("gw-a", "gw-b"), ("gw-b", "gw-a")):
        assert f"{tmp_path}/keys/{node}  to  /etc/hasyncd/keys  on {node}" in told
        assert load_pair_keys(tmp_path / "keys" / node, node).peer == peer


def test_names_are_chosen_and_must_be_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = str(tmp_path / "keys")
    assert cli.main(["keygen", keys, "--node", "north", "--node", "south", "--days", "2"]) == 0
    assert load_pair_keys(tmp_path / "keys" / "south", "south").peer == "north"
    for words, error in (
        (["--node", "one"], "a pair has two names, not 1"),
        (["--node", "one", "--node", "one"], "a pair has two names, not 'one' twice"),
        (["--node", "one", "--node", "../two"], "'../two' is no name of a node"),
        (["--days", "0"], "--days: 0 is not within 1 and 36500"),
    ):
        assert cli.main(["keygen", keys, *words]) == 2
        assert error in capsys.readouterr().err


def test_keys_that_are_there_are_replaced_by_force_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["keygen", str(tmp_path)]
    assert cli.main(words) == 0
    before = (tmp_path / "gw-a" / "pair.secret").read_bytes()
    assert cli.main(words) == 2
    assert "is there already; --force" in capsys.readouterr().err
    assert (tmp_path / "gw-a" / "pair.secret").read_bytes() == before
    assert cli.main([*words, "--force"]) == 0
    assert (tmp_path / "gw-a" / "pair.secret").read_bytes() != before


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert cli.main(["keygen", str(tmp_path / "file")]) == 2
    assert f"{tmp_path}/file" in capsys.readouterr().err


def test_check_judges_the_file_alone_and_run_the_keys_too(tmp_path: Path) -> None:
    assert load(EXAMPLE).peer.keys == Path("/etc/hasyncd/keys")
    file = tmp_path / "node.toml"
    file.write_text(EXAMPLE.read_text().replace("/etc/hasyncd/keys", f"{tmp_path}/none"))
    assert cli.main(["check", str(file)]) == 0
    command = [sys.executable, "-m", "hasyncd", "run", "-c", str(file)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 2
    assert ran.stderr.splitlines() == [
        f"hasyncd: peer.keys: {tmp_path}/none/{name}: No such file or directory"
        for name in ("pair.secret", "node.key", "node.crt", "ca.crt")
    ]
