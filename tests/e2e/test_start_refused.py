"""A daemon that cannot start says why in one line, exits with 2 and leaves nothing; links that come and go."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.world import ROOT, SYNC, World, until, world

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture
def machines() -> Iterator[World]:
    with world() as made:
        yield made


def refused(machines: World, old: str = "", new: str = "") -> str:
    """Starts gw-a, which must end with 2; the last line that it said. Nothing may be left."""
    gateway = machines.a
    gateway.start(old, new)
    assert gateway.end() == 2, gateway.log
    lines = gateway.log.splitlines()
    assert lines
    assert "Traceback" not in gateway.log
    assert sum(line.startswith("hasyncd: ") for line in lines) == 1, gateway.log
    assert gateway.filters() == "", "an ingress filter was left behind"
    return lines[-1].removeprefix("hasyncd: ")


def test_an_interface_that_does_not_exist(machines: World) -> None:
    reason = refused(machines, 'inside = "inside"', 'inside = "eth7"')
    assert reason == "no interface eth7 (present: inside, lo, outside, sync)"
    assert not machines.a.socket.exists()


def test_an_address_that_no_interface_carries(machines: World) -> None:
    reason = refused(machines, 'inside = "inside"', 'inside = "10.9.9.9/24"')
    assert reason.startswith("no interface carries 10.9.9.9/24 (present: ")


def test_both_sides_on_one_interface_under_two_names(machines: World) -> None:
    reason = refused(machines, 'inside = "inside"', 'inside = "203.0.113.2/24"')
    assert reason == "interfaces.inside and interfaces.outside are both outside"


def test_a_vip_that_the_kernel_holds(machines: World) -> None:
    machines.a.namespace.ip("address", "add", "203.0.113.5/32", "dev", "sync")
    reason = refused(machines)
    assert reason.startswith("203.0.113.5 is configured on a kernel interface: remove it there")


def test_a_listen_address_that_is_not_on_the_machine(machines: World) -> None:
    reason = refused(machines, f'listen = "{SYNC["gw-a"]}', 'listen = "169.254.10.77')
    assert reason == "peer.listen 169.254.10.77:7077: Cannot assign requested address"
    assert not machines.a.socket.exists(), "the control socket was removed again"


def test_a_peer_port_that_is_taken(machines: World) -> None:
    with machines.a.namespace.entered():
        holder = socket.create_server((SYNC["gw-a"], 7077))
    with holder:
        assert refused(machines) == f"peer.listen {SYNC['gw-a']}:7077: Address already in use"


def test_a_state_directory_that_cannot_be_made(machines: World) -> None:
    (machines.a.directory / "gw-a").write_text("a file where the directory should be")
    assert refused(machines).startswith(f"{machines.a.directory}/gw-a: cannot be used: ")


def test_a_state_directory_of_another_daemon(machines: World) -> None:
    state = machines.a.directory / "gw-a"
    state.mkdir()
    lock = os.open(state / "lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.write(lock, b"4711\n")
        assert refused(machines) == f"{state}: is in use by another daemon (process 4711)"
    finally:
        os.close(lock)


def test_a_damaged_generation(machines: World) -> None:
    state = machines.a.directory / "gw-a"
    state.mkdir()
    (state / "generation").write_text("generation 7 00000000\n")
    assert refused(machines).startswith(f"{state}/generation: is damaged; remove it only if ")


def test_a_control_socket_where_another_daemon_answers(machines: World) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as holder:
        holder.bind(str(machines.a.socket))
        holder.listen()
        assert refused(machines) == f"another daemon answers at {machines.a.socket}"
    assert machines.a.socket.exists(), "it is not ours to remove"


def test_a_control_socket_path_that_is_a_file(machines: World) -> None:
    machines.a.socket.write_text("precious")
    assert refused(machines) == f"{machines.a.socket} exists and is no socket"
    assert machines.a.socket.read_text() == "precious"


def test_the_socket_of_a_dead_daemon_is_replaced(machines: World) -> None:
    machines.a.start()
    machines.a.wait_role("primary")
    machines.a.kill()
    assert machines.a.socket.exists()
    assert machines.a.filters() != "", "a killed daemon cannot remove its filters"
    machines.a.start()
    machines.a.wait_role("primary")
    machines.a.signal(signal.SIGTERM)
    assert machines.a.end() == 0
    assert machines.a.filters() == ""
    assert not machines.a.socket.exists()


def test_a_second_daemon_does_not_take_the_filters_of_the_first(machines: World) -> None:
    machines.a.start()
    machines.a.wait_role("primary")
    before = machines.a.filters()
    assert before
    config = machines.a.directory / "second.toml"
    config.write_text(
        machines.a.configuration.replace(
            f'{machines.a.directory}/gw-a"', f'{machines.a.directory}/second"', 1
        )
    )
    words = [sys.executable, "-m", "hasyncd", "run", "-c", str(config)]
    inside = ["ip", "netns", "exec", machines.a.namespace.name]
    done = subprocess.run([*inside, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (
        2,
        f"hasyncd: another daemon answers at {machines.a.socket}",
    )
    assert machines.a.filters() == before


def test_a_forwarding_kernel_is_kept_out_by_the_filter(machines: World) -> None:
    """`ip_forward = 1` starts because owned packets are dropped behind the tap; that drop outlives the daemon:
    a kernel that forwards must not begin to do so with private sources because the daemon stopped."""
    machines.a.namespace.sysctl("ipv4/ip_forward", "1")
    machines.a.start()
    machines.a.wait_role("primary")
    machines.wait_traffic()
    machines.a.signal(signal.SIGTERM)
    assert machines.a.end() == 0
    assert machines.a.filters() != ""


def test_a_stop_while_it_starts_is_a_clean_end(machines: World) -> None:
    machines.a.start()
    until(lambda: machines.a.filters() or machines.a.socket.exists(), "it has begun")
    machines.a.signal(signal.SIGTERM)
    assert machines.a.end() in (0, -signal.SIGTERM)
    assert not machines.a.socket.exists()


@pytest.mark.parametrize("side", ["inside", "outside"])
def test_a_node_alone_whose_interface_goes_down_stays_and_serves_when_it_is_back(
    machines: World, side: str
) -> None:
    machines.a.start()
    machines.a.wait_role("primary")
    machines.wait_traffic()
    machines.a.namespace.ip("link", "set", side, "down")
    until(lambda: machines.a.status.get("fitness") == 0, "it is unfit")
    assert not machines.talk()
    status = machines.a.status
    assert status["role"] == "primary", "nobody else would serve"
    assert {track["name"]: track["reason"] for track in status["tracks"]}[side] == f"{side} is down"
    machines.a.namespace.ip("link", "set", side, "up")
    machines.wait_traffic()
    until(lambda: machines.a.status.get("fitness") == 1000, "it is fit")
    assert machines.a.status["generation"] == 1, "it was primary all the time"


def test_a_node_without_any_lan_is_in_fault_until_one_is_back(machines: World) -> None:
    machines.a.start()
    machines.a.wait_role("primary")
    machines.wait_traffic()
    for side in ("inside", "outside"):
        machines.a.namespace.ip("link", "set", side, "down")
    machines.a.wait_role("fault")
    assert machines.a.status["last_change"] == "fault: neither inside nor outside is up"
    for side in ("inside", "outside"):
        machines.a.namespace.ip("link", "set", side, "up")
    machines.a.wait_role("primary")
    machines.wait_traffic()


def test_a_start_with_an_interface_down_serves_once_it_is_up(machines: World) -> None:
    machines.a.namespace.ip("link", "set", "outside", "down")
    machines.a.start()
    machines.a.wait_role("primary")
    assert machines.a.status["fitness"] == 0
    machines.a.namespace.ip("link", "set", "outside", "up")
    machines.wait_traffic()


BAD_CONFIGURATIONS = {
    "a wrong key": ("priority = ", "priorty = ", "node.priorty: is not a known key"),
    "two VIPs alike": ("203.0.113.5/24", "10.0.1.1/24", "vip[1].address: "),
    "a port range reversed": ("1024-65535", "65535-1024", "nat[0].ports: "),
    "overlapping services": (
        "[control]",
        """[[service]]
name = "again"
vip = "203.0.113.5:80"
protocol = "tcp"
backends = [{ id = 1, address = "10.0.1.21:8080" }]
[control]""",
        "service[",
    ),
}


@pytest.mark.parametrize("verb", [("check",), ("run", "-c")])
@pytest.mark.parametrize("fault", BAD_CONFIGURATIONS)
def test_a_bad_configuration_ends_with_2(tmp_path: Path, verb: tuple[str, ...], fault: str) -> None:
    old, new, error = BAD_CONFIGURATIONS[fault]
    text = (ROOT / "deploy" / "hasyncd.example.toml").read_text()
    assert old in text
    file = tmp_path / "node.toml"
    file.write_text(text.replace(old, new, 1))
    done = subprocess.run(
        [sys.executable, "-m", "hasyncd", *verb, str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert all(line.startswith(f"{file}: ") for line in done.stderr.splitlines()), done.stderr
    assert any(line.startswith(f"{file}: {error}") for line in done.stderr.splitlines()), done.stderr
