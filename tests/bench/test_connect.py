"""connect_load: what it says it opened is what the gateway between its two ends has seen."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hasyncd.bench.connect import ConnectBed, Load, build_load
from hasyncd.cli.client import ask
from hasyncd.lab.lock import LabLock
from hasyncd.lab.namespaces import LabError

pytestmark = pytest.mark.e2e

SECONDS = 0.2


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_load(tmp_path_factory.mktemp("program"))


@pytest.fixture
def lab() -> Iterator[None]:
    deadline = time.monotonic() + 90
    while True:
        try:
            with LabLock():
                yield
                return
        except LabError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def check(load: Load) -> None:
    """No packet is lost on idle veths with 512 connections under way."""
    assert 0 < load.established <= load.total_sent
    assert load.wrong == 0
    counts = {load.total_answered, load.total_confirmed, load.total_established, load.total_reset}
    assert counts == {load.total_sent}
    assert load.lost == 0


@pytest.mark.usefixtures("lab")
@pytest.mark.parametrize("kind", ["nat", "lb"])
def test_the_daemon_has_created_the_flows_that_were_established(program: Path, kind: str) -> None:
    with ConnectBed("packet") as bed:
        load = bed.connect(program, kind, SECONDS)
        check(load)
        flows = ask(bed.directory / "bench.sock", "status")[0][0]["flows"]
        assert flows["tcp"] == load.total_sent
        again = bed.connect(program, kind, SECONDS)
        check(again)
        flows = ask(bed.directory / "bench.sock", "status")[0][0]["flows"]
        assert flows["tcp"] == load.total_sent + again.total_sent, "no tuple comes twice"


@pytest.mark.usefixtures("lab")
@pytest.mark.parametrize("kind", ["nat", "lb"])
def test_the_kernel_has_tracked_the_connections_that_were_established(program: Path, kind: str) -> None:
    with ConnectBed("kernel") as bed:
        # A rule that counts what conntrack says of each connection's packets.
        bed.run(
            bed.middle, "nft", "add table ip seen; add chain ip seen passing { type filter hook forward priority 10; };"
            "add rule ip seen passing ct state new counter; add rule ip seen passing ct state established counter",
        )  # fmt: skip
        load = bed.connect(program, kind, SECONDS)
        check(load)
        told = bed.run(bed.middle, "nft", "list table ip seen")
        new, established = (int(count) for count in re.findall(r"counter packets (\d+)", told))
        assert new == load.total_sent
        assert established == 3 * load.total_sent, "SYN-ACK, ACK, RST"


@pytest.mark.usefixtures("lab")
def test_nothing_is_counted_that_the_far_end_did_not_see(program: Path) -> None:
    class Plain(ConnectBed):
        rules = "table ip nothing { }"

    with Plain("kernel") as bed:
        load = bed.connect(program, "lb", SECONDS)
        assert load.total_sent > 0
        assert load.total_answered == load.total_established == load.established == 0
        assert load.lost == 1


def test_what_the_program_cannot_do_is_said(program: Path) -> None:
    ends = ["no-such-client", "c0", "no-such-server", "s0", "02:00:00:00:00:01"]
    words = [*ends, "10.1.0.1", "1", "198.18.0.1", "1", "80", "0", "1"]
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "connect_load: /run/netns/no-such-server: No such file or directory\n"
