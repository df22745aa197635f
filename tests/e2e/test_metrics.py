"""`[metrics]` of real daemons: Prometheus' own tool takes what they say, and a bad address is told at the start."""

from __future__ import annotations

import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator

import pytest

from tests.e2e.world import Gateway, World, until, world

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

WITH_METRICS = '[metrics]\nlisten = "{listen}"\n[control]'


@pytest.fixture
def machines() -> Iterator[World]:
    with world() as made:
        yield made


def scrape(gateway: Gateway, address: str) -> str:
    with (
        gateway.namespace.entered(),
        urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer,
    ):
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return str(answer.read().decode())


def test_both_nodes_of_a_pair_are_scraped(machines: World) -> None:
    listen = "127.0.0.1:9107"
    for gateway in (machines.a, machines.b):
        gateway.start("[control]", WITH_METRICS.format(listen=listen))
        if gateway is machines.a:
            gateway.wait_role("primary")  # who began to listen first may be either, where both begin at once
    machines.b.wait_role("backup")
    until(lambda: 'hasyncd_sync_state{state="ready"} 1.0' in scrape(machines.b, listen), "the copy is whole")
    primary, backup = scrape(machines.a, listen), scrape(machines.b, listen)
    assert 'hasyncd_role{role="primary"} 1.0' in primary
    assert 'hasyncd_role{role="backup"} 1.0' in backup
    assert "hasyncd_digest_match 1.0" in backup
    tool = shutil.which("promtool")
    assert tool is not None, "promtool is missing: tests/run installs it (Debian's package prometheus)"
    for text in (primary, backup):
        judged = subprocess.run(
            [tool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
        )
        assert judged.returncode == 0, judged.stdout + judged.stderr
    lag = next(line for line in primary.splitlines() if line.startswith("hasyncd_loop_lag_seconds_count"))
    assert float(lag.split()[1]) > 0


@pytest.mark.parametrize(
    ("listen", "why"),
    [("192.0.2.1:9107", "cannot assign requested address"), ("127.0.0.1:9108", "address already in use")],
)
def test_an_address_that_cannot_be_had_is_told_at_the_start(machines: World, listen: str, why: str) -> None:
    with machines.a.namespace.entered():
        holder = socket.create_server(("127.0.0.1", 9108))
    with holder:
        machines.a.start("[control]", WITH_METRICS.format(listen=listen))
        assert machines.a.end() == 2, machines.a.log
    assert machines.a.log.splitlines()[-1] == f"hasyncd: metrics.listen {listen}: {why}"
    assert machines.a.filters() == "", "an ingress filter was left behind"
    assert not machines.a.socket.exists()
