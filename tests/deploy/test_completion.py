"""The shells complete what the program understands."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SHARE = Path(__file__).parents[2] / "deploy/share"


def completed(line: str, cwd: Path) -> set[str]:
    """What bash offers at the end of a line; no start-up files, no other completions."""
    script = f"""
        source {SHARE}/hasyncd.bash
        COMP_LINE={line!r}
        read -ra COMP_WORDS <<<"$COMP_LINE"
        [[ $COMP_LINE == *' ' ]] && COMP_WORDS+=('')
        COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        _hasyncd
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    command = ["bash", "--norc", "--noprofile", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=cwd)
    assert done.stderr == ""
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("hasyncd sta", {"status"}),
        ("hasyncd status --j", {"--json"}),
        ("hasyncd flows --proto ", {"icmp", "icmpv6", "tcp", "udp"}),
        ("hasyncd check no", {"node.toml"}),
        ("hasyncd run -c no", {"node.toml"}),
        ("hasyncd lab ", {"up", "down", "shell"}),
    ],
)
def test_bash_offers_verbs_flags_choices_and_files(line: str, offered: set[str], tmp_path: Path) -> None:
    (tmp_path / "node.toml").touch()
    assert offered <= completed(line, tmp_path)


def test_bash_offers_nothing_that_does_not_begin_so(tmp_path: Path) -> None:
    assert completed("hasyncd status --j", tmp_path) == {"--json"}
    assert completed("hasyncd zzz", tmp_path) == set()
