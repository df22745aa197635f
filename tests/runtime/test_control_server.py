"""hasyncd.runtime.control_server against the operator's client, over a real Unix socket."""

from __future__ import annotations

import asyncio
import json
import select
import socket
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from hasyncd.cli.client import Answer, NoDaemon, ask
from hasyncd.runtime import control_server
from hasyncd.runtime.control_server import Conclusion, ControlServer, SocketTaken

Request = dict[str, Any]


class Daemon:
    """Handlers such as a daemon would give, and what happened to them."""

    def __init__(self) -> None:
        self.streaming = asyncio.Event()
        self.ended = asyncio.Event()

    async def status(self, request: Request) -> AsyncIterator[Request]:
        yield {"node": "n1", "asked": request}

    async def switchover(self, request: Request) -> AsyncIterator[Request]:
        if not request.get("force"):
            raise Conclusion("refused: no peer")
        raise Conclusion("handed over", 0)
        yield {}  # makes it the generator that a handler is

    async def flows(self, request: Request) -> AsyncIterator[Request]:
        for number in range(int(request.get("count", 1000))):
            yield {"number": number, "padding": "x" * 200}

    async def events(self, request: Request) -> AsyncIterator[Request]:
        try:
            yield {"event": "began"}
            self.streaming.set()
            await asyncio.Event().wait()
        finally:
            self.ended.set()

    async def broken(self, request: Request) -> AsyncIterator[Request]:
        yield {"first": 1}
        raise ZeroDivisionError

    def handlers(self) -> dict[str, Callable[[Request], AsyncIterator[Request]]]:
        return {verb: getattr(self, verb) for verb in ("status", "switchover", "flows", "events", "broken")}


@pytest.fixture
def daemon() -> Daemon:
    return Daemon()


@pytest.fixture
async def path(tmp_path: Path, daemon: Daemon) -> AsyncIterator[Path]:
    """A served socket."""
    server = ControlServer(tmp_path / "run" / "n1.sock", daemon.handlers())
    await server.start()
    yield tmp_path / "run" / "n1.sock"
    await server.stop()


async def exchange(path: Path, request: bytes, *, half_close: bool = False) -> list[Any]:
    """Sends raw bytes and returns the lines of the answer."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(request)
    if half_close:
        writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return [json.loads(line) for line in answer.splitlines()]


async def test_an_answer_has_its_objects_and_a_good_end(path: Path) -> None:
    items, code, message = await asyncio.to_thread(ask, path, "status", detail=1)
    assert items == [{"node": "n1", "asked": {"verb": "status", "detail": 1}}]
    assert (code, message) == (0, "")


async def test_a_conclusion_carries_message_and_exit_code(path: Path) -> None:
    assert await asyncio.to_thread(ask, path, "switchover") == ([], 1, "refused: no peer")
    assert await asyncio.to_thread(ask, path, "switchover", force=True) == ([], 0, "handed over")


async def test_only_the_owner_may_open_the_socket(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_long_answer_leaves_turns_to_the_event_loop(path: Path) -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count_turns())
    items, code, _ = await asyncio.to_thread(ask, path, "flows", count=20_000)
    counting.cancel()
    assert (len(items), code) == (20_000, 0)
    assert turns >= 20_000 / control_server.OBJECTS_PER_TURN


async def test_a_stream_ends_when_its_reader_leaves(path: Path, daemon: Daemon) -> None:
    def read_one() -> Any:
        with Answer(path, {"verb": "events"}) as answer:
            return next(iter(answer))

    assert await asyncio.to_thread(read_one) == {"event": "began"}
    await asyncio.wait_for(daemon.ended.wait(), 20)


async def test_a_stream_ends_when_its_reader_leaves_after_closing_half(
    path: Path, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_server, "CLOSE_POLL_S", 0.01)
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(b'{"verb":"events"}\n')
    writer.write_eof()
    assert json.loads(await reader.readline()) == {"event": "began"}
    await daemon.streaming.wait()
    assert not daemon.ended.is_set()
    writer.close()
    await asyncio.wait_for(daemon.ended.wait(), 20)


async def test_who_closes_its_sending_half_still_gets_the_answer(path: Path) -> None:
    lines = await exchange(path, b'{"verb":"flows","count":2000}\n', half_close=True)
    assert len(lines) == 2001
    assert lines[-1] == {"end": True, "exit": 0, "message": ""}


async def test_a_broken_handler_is_told_and_does_not_break_the_server(path: Path) -> None:
    items, code, message = await asyncio.to_thread(ask, path, "broken")
    assert (items, code, message) == ([{"first": 1}], 1, "internal error: ZeroDivisionError")
    assert (await asyncio.to_thread(ask, path, "status"))[1] == 0


@pytest.mark.parametrize(
    ("request_bytes", "message"),
    [
        (b"garbage\n", "the request is no JSON"),
        (b"\xff\xfe\n", "the request is no JSON"),
        (b"[" * 50_000 + b"\n", "the request is no JSON"),
        (b"[1]\n", "the request is no JSON object"),
        (b"{}\n", "the daemon has no such verb; it knows broken, events, flows, status, switchover"),
        (
            b'{"verb":"reboot"}\n',
            "the daemon has no such verb; it knows broken, events, flows, status, switchover",
        ),
        (
            b'{"verb":["status"]}\n',
            "the daemon has no such verb; it knows broken, events, flows, status, switchover",
        ),
        (b'{"verb":"status"}', "the request has no end of line"),
        (b"", "the request has no end of line"),
        (b"x" * 200_000, "the request is longer than 65536 bytes"),
    ],
)
async def test_hostile_requests_are_refused(path: Path, request_bytes: bytes, message: str) -> None:
    try:
        lines = await exchange(path, request_bytes, half_close=True)
        assert lines == [{"end": True, "exit": 2, "message": message}]
    except (ConnectionResetError, BrokenPipeError):
        assert len(request_bytes) > control_server.REQUEST_BYTES_MAX, "only a flood is cut off"
    assert (await asyncio.to_thread(ask, path, "status"))[1] == 0


async def test_who_says_nothing_is_sent_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_server, "REQUEST_TIMEOUT_S", 0.05)
    assert await exchange(path, b"") == [{"end": True, "exit": 2, "message": "no request within 0.05 s"}]


async def test_who_does_not_read_is_cut_off(
    path: Path, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_server, "STALL_TIMEOUT_S", 0.05)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stuck:
        stuck.connect(str(path))
        stuck.sendall(b'{"verb":"flows","count":1000000}\n')
        await asyncio.to_thread(drain_slowly_until_closed, stuck)
    assert (await asyncio.to_thread(ask, path, "status"))[1] == 0


def drain_slowly_until_closed(stuck: socket.socket) -> None:
    """Waits, reading nothing, until the other side has given up; what was sent until then ends in a close."""
    stuck.settimeout(20)
    gone = select.poll()
    gone.register(stuck.fileno(), 0)
    assert gone.poll(20_000), "the server keeps a reader that does not read"


async def test_more_than_the_request_ends_the_answer(path: Path, daemon: Daemon) -> None:
    _, writer = await asyncio.open_unix_connection(str(path))
    writer.write(b'{"verb":"events"}\n')
    await daemon.streaming.wait()
    writer.write(b"more")
    await asyncio.wait_for(daemon.ended.wait(), 20)
    writer.close()


async def test_connections_are_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_server, "CONNECTIONS_MAX", 2)
    idle = [await asyncio.open_unix_connection(str(path)) for _ in range(2)]
    lines = await exchange(path, b"")
    assert lines == [{"end": True, "exit": 1, "message": "too many connections to the control socket"}]
    for _, writer in idle:
        writer.close()


async def test_stop_ends_what_is_under_way_and_removes_the_socket(tmp_path: Path) -> None:
    daemon = Daemon()
    server = ControlServer(tmp_path / "n1.sock", daemon.handlers())
    await server.start()
    _, writer = await asyncio.open_unix_connection(str(tmp_path / "n1.sock"))
    writer.write(b'{"verb":"events"}\n')
    await daemon.streaming.wait()
    await server.stop()
    assert daemon.ended.is_set()
    assert not (tmp_path / "n1.sock").exists()
    await server.stop()
    writer.close()


async def test_the_socket_of_a_dead_daemon_is_replaced(tmp_path: Path) -> None:
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    dead.bind(str(tmp_path / "n1.sock"))
    dead.close()
    server = ControlServer(tmp_path / "n1.sock", Daemon().handlers())
    await server.start()
    assert (await asyncio.to_thread(ask, tmp_path / "n1.sock", "status"))[1] == 0
    await server.stop()


async def test_the_socket_of_a_living_daemon_is_left_alone(path: Path) -> None:
    with pytest.raises(SocketTaken, match="another daemon answers"):
        await ControlServer(path, {}).start()
    assert (await asyncio.to_thread(ask, path, "status"))[1] == 0


async def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "n1.sock").write_text("precious")
    with pytest.raises(FileExistsError):
        await ControlServer(tmp_path / "n1.sock", {}).start()
    assert (tmp_path / "n1.sock").read_text() == "precious"


def test_without_a_daemon_the_client_says_so(tmp_path: Path) -> None:
    with pytest.raises(NoDaemon, match=r"no daemon at .*No such file"):
        ask(tmp_path / "none.sock", "status")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "went away before its answer ended"),
        (b'{"node": 1}\n{"end"', "went away before its answer ended"),
        (b"hello\n", "is no hasyncd daemon"),
        (b"[]\n", "is no hasyncd daemon"),
    ],
)
async def test_the_client_believes_no_broken_answer(tmp_path: Path, answer: bytes, message: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        writer.close()

    server = await asyncio.start_unix_server(serve, str(tmp_path / "x.sock"))
    with pytest.raises(NoDaemon, match=message):
        await asyncio.to_thread(ask, tmp_path / "x.sock", "status")
    server.close()
    await server.wait_closed()
