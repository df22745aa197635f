"""The delta log's file, read after the process that wrote it is gone (proto/last_word.md)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hasyncd._native import INSIDE, OUTSIDE, Engine
from hasyncd.cli.last_word import LastWord, Unreadable, read_last_word
from tests.native import frames
from tests.native.engines import BACKENDS, CLIENT, OUTSIDE_VIP, PRIVATE, flows, make_engine, now_ns, send
from tests.native.frames import ACK, SYN

RECORDS = 64

CHURN = """
import os, sys
from tests.native import frames
from tests.native.engines import make_engine, send
from hasyncd._native import INSIDE
engine = make_engine(log_file=os.open(sys.argv[1], os.O_RDWR), log_records=4096, capacity=65536)
port, sent = 0, 0
while True:
    send(engine, INSIDE, frames.udp("10.0.1.7", 1024 + port % 50_000, "8.8.8.8", 53))
    port += 1
    if port % 16 == 0:
        _, count, _ = engine.drain()
        engine.acknowledge(port - 8)
    print(port, flush=True)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "node.lastword"
    path.touch()
    return path


def engine_in(file: Path) -> Engine:
    return make_engine(log_file=os.open(file, os.O_RDWR), log_records=RECORDS)


def word(file: Path) -> LastWord:
    return read_last_word(file.read_bytes())


def confirm_all(engine: Engine) -> None:
    first, count, _ = engine.drain()
    engine.acknowledge(first + count - 1)


def test_a_flow_is_at_risk_until_its_record_is_confirmed(file: Path) -> None:
    engine = engine_in(file)
    engine.set_commit("ack", 10**9, True)
    send(engine, INSIDE, frames.udp(PRIVATE, 5000, "8.8.8.8", 53))
    said = word(file)
    assert (said.active, said.commit, said.at_risk, said.flows, said.whole) == (True, "ack", 1, 1, True)
    (flow,) = said.flows_at_risk.values()
    assert (flow["risk"], flow["proto"], flow["src"], flow["sport"]) == ("new", "udp", PRIVATE, 5000)
    assert (flow["reply_dst"], flow["reply_dport"]) == (OUTSIDE_VIP, flows(engine)[0].reply[3])
    confirm_all(engine)
    assert word(file).flows_at_risk == {}
    assert word(file).at_risk == 0


def test_a_change_of_state_makes_a_known_flow_changed_and_its_end_ends_the_risk(file: Path) -> None:
    engine = engine_in(file)
    send(engine, OUTSIDE, frames.tcp(CLIENT, 40000, OUTSIDE_VIP, 80, SYN))
    confirm_all(engine)
    (known,) = flows(engine)
    send(engine, INSIDE, frames.tcp(BACKENDS[known.server_id], 8080, CLIENT, 40000, SYN | ACK))
    (flow,) = word(file).flows_at_risk.values()
    assert flow["risk"] == "changed"
    assert "src" not in flow
    assert word(file).at_risk == 1
    engine.tick(now_ns() + 10_000 * 10**9)
    engine.tick(now_ns() + 20_000 * 10**9)
    assert engine.flow_counts()[0] == 0
    assert (word(file).at_risk, word(file).flows_at_risk) == (0, {})


def test_a_refresh_puts_nobody_at_risk(file: Path) -> None:
    engine = engine_in(file)
    start = now_ns()
    send(engine, INSIDE, frames.udp(PRIVATE, 5000, "8.8.8.8", 53), start)
    confirm_all(engine)
    send(engine, INSIDE, frames.udp(PRIVATE, 5000, "8.8.8.8", 53), start + 100 * 10**9)
    said = word(file)
    assert said.next > said.acknowledged + 1, "the refresh was logged"
    assert (said.at_risk, said.flows_at_risk) == (0, {})


def test_a_log_that_was_overrun_says_that_its_list_is_not_whole(file: Path) -> None:
    engine = engine_in(file)
    for port in range(RECORDS + 5):
        send(engine, INSIDE, frames.udp(PRIVATE, 2000 + port, "8.8.8.8", 53))
    said = word(file)
    assert not said.whole
    assert (said.at_risk, len(said.flows_at_risk)) == (RECORDS + 5, RECORDS)


def test_a_node_that_is_no_primary_says_so(file: Path) -> None:
    engine = engine_in(file)
    engine.disarm()
    assert not word(file).active


def test_a_file_that_cannot_grow_is_an_error_and_no_crash_later(tmp_path: Path) -> None:
    with (tmp_path / "node.lastword").open("wb") as unwritable, pytest.raises(OSError, match="Bad file"):
        Engine(capacity=8, seed=bytes(16), log_file=os.open(unwritable.name, os.O_RDONLY))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: b"",
        lambda content: content[:4095],
        lambda content: content[:-1],
        lambda content: b"x" + content[1:],
        lambda content: content[:8] + b"\x02" + content[9:],
        lambda content: content[:12] + bytes(4) + content[16:],
        lambda content: content[:32] + b"\x07" + content[33:],
    ],
)
def test_what_is_no_last_word_is_refused(file: Path, spoil: object) -> None:
    engine_in(file)
    assert callable(spoil)
    with pytest.raises(Unreadable):
        read_last_word(spoil(file.read_bytes()))


def test_after_sigkill_at_any_moment_gauge_and_list_agree(file: Path) -> None:
    for turn in range(6):
        churn = subprocess.Popen([sys.executable, "-c", CHURN, str(file)], stdout=subprocess.PIPE)
        assert churn.stdout is not None
        for _ in range(200 + 37 * turn):
            assert churn.stdout.readline(), "it ended by itself"
        time.sleep(0.0007 * turn)
        os.kill(churn.pid, signal.SIGKILL)
        churn.wait()
        churn.stdout.close()
        said = word(file)
        assert said.whole
        assert said.next > 200
        # The gauge is stored just before `next`: a death between them leaves them one apart.
        assert abs(said.at_risk - len(said.flows_at_risk)) <= 1
        file.unlink()
        file.touch()
