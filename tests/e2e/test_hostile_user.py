"""A real daemon with keys and metrics beside nonsense at its control socket and its metrics port: it answers
afterwards, holds no descriptor more, and neither its answers nor its files give a secret away."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from hasyncd.pair_files import make_pair_files
from hasyncd.runtime import control_server, metrics_server
from tests.e2e.world import World, until, world

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

METRICS = ("10.0.1.2", 9477)
GROWTH_KIB_MAX = 8192

json_values = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=20),
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(some.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
requests = some.one_of(
    some.binary(max_size=300),
    some.builds(lambda value: json.dumps(value).encode() + b"\n", json_values),
    # A real verb with keys of the right names and the wrong types.
    some.builds(
        lambda verb, keys: json.dumps(keys | {"verb": verb}).encode() + b"\n",
        some.sampled_from(["status", "flows", "ring"]),
        some.dictionaries(
            some.sampled_from(
                ["proto", "src", "dst", "sport", "count", "state", "service", "backend", "key"]
            ),
            json_values,
            max_size=4,
        ),
    ),
)


@pytest.fixture(scope="module")
def machines() -> Iterator[World]:
    with world() as made:
        make_pair_files(made.a.directory / "keys", ("gw-a", "gw-b"))
        keys = f'keys = "{made.a.directory}/keys/gw-a"\n[metrics]\nlisten = "{METRICS[0]}:{METRICS[1]}"'
        made.a.start("insecure = true", keys)
        made.a.wait_role("primary")
        made.wait_traffic()
        yield made
        assert made.a.process
        assert made.a.process.poll() is None, "the daemon is alive"
        assert "Traceback" not in made.a.log


def descriptors(machines: World) -> int:
    assert machines.a.process
    return len(list(Path(f"/proc/{machines.a.process.pid}/fd").iterdir()))


def say(machines: World, payload: bytes) -> bytes:
    """What the control socket answers to a request that ends there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
        control.settimeout(30)
        control.connect(str(machines.a.socket))
        with contextlib.suppress(BrokenPipeError):
            control.sendall(payload)
            control.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while more := control.recv(65_536):
                answer += more
    return answer


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(payload=requests)
def test_nonsense_at_the_control_socket_gets_an_end_and_no_inner_error(
    machines: World, payload: bytes
) -> None:
    end = json.loads(say(machines, payload).splitlines()[-1])
    assert end["end"] is True
    assert "internal error" not in end["message"]


def test_the_control_socket_is_bounded_in_length_and_number(machines: World) -> None:
    machines.wait_traffic()
    memory, before = machines.a.memory_kib, descriptors(machines)
    say(machines, b"[" * 60_000 + b"\n")
    say(machines, bytes(4 << 20))
    with contextlib.ExitStack() as held:
        for _ in range(3 * control_server.CONNECTIONS_MAX):
            idle = held.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            idle.connect(str(machines.a.socket))
            with contextlib.suppress(BrokenPipeError):  # it was one too many
                idle.sendall(b'{"verb"')
        # Those past the bound are turned away at once; what is held stays under it.
        until(
            lambda: descriptors(machines) <= before + control_server.CONNECTIONS_MAX, "the crowd is sent away"
        )
        assert machines.talk(), "packets flow meanwhile"
    until(lambda: descriptors(machines) <= before, "every descriptor was closed")
    assert machines.a.memory_kib - memory < GROWTH_KIB_MAX
    assert machines.a.status["role"] == "primary"


def test_slow_and_many_scrapes_end_and_the_daemon_answers(machines: World) -> None:
    before = descriptors(machines)
    with machines.host.entered(), contextlib.ExitStack() as held:
        for _ in range(3 * metrics_server.CONNECTIONS_MAX):
            slow = held.enter_context(socket.create_connection(METRICS, 10))
            with contextlib.suppress(ConnectionError):  # it was one too many
                slow.sendall(b"GET /met")
        until(
            lambda: descriptors(machines) <= before + metrics_server.CONNECTIONS_MAX, "the crowd is sent away"
        )
        until(lambda: descriptors(machines) <= before, "slow ones end with their time")
    assert machines.a.status["role"] == "primary"
    assert machines.talk()


def test_no_secret_is_in_a_log_a_status_or_a_scrape_and_all_files_are_the_owners(machines: World) -> None:
    secrets = []
    for file in (machines.a.directory / "keys" / "gw-a").iterdir():
        mode = stat.S_IMODE(file.stat().st_mode)
        assert mode & 0o077 == 0, f"{file} is {mode:o}"
        raw = file.read_bytes()
        if b"CERTIFICATE" not in raw:
            lines = [line for line in raw.splitlines() if line and not line.startswith(b"-----")]
            secrets += [*lines, raw.strip(), raw.strip().hex().encode(), base64.b64encode(raw.strip())]
    assert secrets
    with machines.host.entered(), socket.create_connection(METRICS, 10) as scrape:
        scrape.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        scraped = b"".join(iter(lambda: scrape.recv(65_536), b""))
    assert scraped.startswith(b"HTTP/1.1 200 OK")
    said = machines.a.log.encode() + scraped + say(machines, b'{"verb": "status"}\n')
    assert [secret for secret in secrets if secret in said] == []
    assert stat.S_IMODE(os.stat(machines.a.socket).st_mode) == 0o600
    state = machines.a.directory / "gw-a"
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert [file for file in state.iterdir() if file.is_file() and file.stat().st_mode & 0o077] == []
