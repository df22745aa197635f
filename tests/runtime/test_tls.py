"""hasyncd.runtime.tls and the port that uses it: who is taken for the peer, and what happens to everybody else."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from hasyncd.pair_files import AUTHORITY, CERTIFICATE, PRIVATE_KEY, SECRET, make_pair_files
from hasyncd.runtime.delta_stream import DeltaStream
from hasyncd.runtime.pair_keys import PairKeys, PairKeysError, load_pair_keys
from hasyncd.runtime.peer_port import Connection, PeerPort
from hasyncd.runtime.tls import PeerRefused, TlsSession, Untrusted
from tests.runtime.pair import PORT, loopback_addresses, until
from tests.runtime.test_peer_port import endpoint, is_closed

PAIR = ("gw-a", "gw-b")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The keys of a pair; not to be changed."""
    directory = tmp_path_factory.mktemp("pair") / "keys"
    make_pair_files(directory, PAIR)
    return directory


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The keys of another pair with the same names."""
    directory = tmp_path_factory.mktemp("others") / "keys"
    make_pair_files(directory, PAIR)
    return directory


def load(directory: Path, node: str) -> PairKeys:
    return load_pair_keys(directory / node, node)


def meet(connecting: PairKeys, accepting: PairKeys, chunk: int = 65_536) -> tuple[TlsSession, TlsSession]:
    """Both ends after the handshake, its bytes carried in chunks."""
    one, two = TlsSession(connecting, accepted=False), TlsSession(accepting, accepted=True)
    ready = {one: False, two: False}
    waiting: dict[TlsSession, bytes] = {one: b"", two: b""}
    ready[one] = one.shake(b"")
    waiting[two] += one.outgoing()
    while not all(ready.values()):
        for here, there in ((two, one), (one, two)):
            part, waiting[here] = waiting[here][:chunk], waiting[here][chunk:]
            if part and not ready[here]:
                try:
                    ready[here] = here.shake(part)
                finally:
                    waiting[there] += here.outgoing()
    assert waiting == {one: b"", two: b""}
    return one, two


@pytest.mark.parametrize("chunk", [1, 7, 1000, 65_536])
def test_what_is_encrypted_is_what_is_decrypted_whatever_the_chunks(keys: Path, chunk: int) -> None:
    one, two = meet(load(keys, "gw-a"), load(keys, "gw-b"), chunk)
    chance = random.Random(chunk)
    said = [chance.randbytes(size) for size in (0, 1, 16_384, 16_385, 70_000)]
    wire = b"".join(one.encrypt(data) for data in said)
    heard = b"".join(two.decrypt(wire[at : at + chunk]) for at in range(0, len(wire), chunk))
    assert heard == b"".join(said)
    assert one.decrypt(two.encrypt(b"reply")) == b"reply"


def test_more_than_fits_at_once_is_decrypted_whole(keys: Path) -> None:
    one, two = meet(load(keys, "gw-b"), load(keys, "gw-a"))
    data = random.Random(1).randbytes(1_000_000)
    assert two.decrypt(one.encrypt(data)) == data


def test_the_accepting_side_says_nothing_after_the_handshake(keys: Path) -> None:
    _, two = meet(load(keys, "gw-a"), load(keys, "gw-b"))
    assert two.outgoing() == b"", "an unread ticket would turn the end of a killed process into a reset"


@pytest.mark.parametrize("at", [6, 500, -1])
def test_a_changed_byte_ends_it_after_what_came_before(keys: Path, at: int) -> None:
    one, two = meet(load(keys, "gw-a"), load(keys, "gw-b"))
    good, bad = one.encrypt(b"good"), bytearray(one.encrypt(bytes(1000)))
    bad[at] ^= 1
    assert two.decrypt(good + bytes(bad) + one.encrypt(b"after")) == b"good"
    assert two.ended
    assert isinstance(two.failure, Untrusted)
    assert two.decrypt(one.encrypt(b"later")) == b""
    assert two.encrypt(b"an answer to what was good") == b""


def test_a_replayed_record_is_not_heard_twice(keys: Path) -> None:
    one, two = meet(load(keys, "gw-a"), load(keys, "gw-b"))
    record = one.encrypt(b"once")
    assert two.decrypt(record + record) == b"once"
    assert two.ended


@pytest.mark.parametrize("accepting", [True, False])
def test_a_certificate_of_another_authority_is_refused(keys: Path, others: Path, accepting: bool) -> None:
    ours, theirs = load(keys, "gw-a"), load(others, "gw-b")
    with pytest.raises(Untrusted, match=r"self-signed certificate|unable to get local issuer"):
        meet(theirs, ours) if accepting else meet(ours, theirs)


@pytest.mark.parametrize("accepting", [True, False])
def test_our_own_certificate_is_refused(keys: Path, accepting: bool) -> None:
    """Somebody shows us ourselves: same authority, and not the peer."""
    ours = load(keys, "gw-a")
    mirror = PairKeys("gw-a", b"", b"", ours.server, ours.client, ours.expires)
    with pytest.raises(Untrusted, match="'gw-a', the peer is gw-b"):
        meet(mirror, ours) if accepting else meet(ours, mirror)


def test_an_expired_certificate_is_refused(
    keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pair_files(tmp_path / "old", PAIR, days=-1)
    monkeypatch.setattr("hasyncd.runtime.pair_keys._check_certificates", lambda *_: None)
    with pytest.raises(Untrusted, match="certificate has expired"):
        meet(load(tmp_path / "old", "gw-a"), load(tmp_path / "old", "gw-b"))


# --- the port ------------------------------------------------------------------------------------------------


class Port:
    """One node's port, and what came of it."""

    def __init__(self, here: str, peer: str, keys: PairKeys | None) -> None:
        self.here, self.peer = here, peer
        self.port = PeerPort(endpoint(here), endpoint(peer), keys)
        self.made: list[Connection] = []
        self.datagrams: list[bytes] = []
        self.reasons: list[str] = []
        self.port.open(
            on_connection=self.made.append,
            on_datagram=lambda payload, path: self.datagrams.append(payload),
            on_untrusted=self.reasons.append,
        )

    async def connect(self) -> Connection | None:
        done: list[Connection | None] = []
        self.port.connect(done.append)
        await until(lambda: done, "the attempt has ended")
        if done[0] is not None:
            self.made.append(done[0])
        return done[0]

    def close(self) -> None:
        self.port.close()
        for each in self.made:
            each.socket.close()


@contextlib.contextmanager
def ports(*keys: PairKeys | None) -> Iterator[tuple[Port, Port]]:
    here, there = loopback_addresses(2)
    with (
        contextlib.closing(Port(here, there, keys[0])) as one,
        contextlib.closing(Port(there, here, keys[1])) as two,
    ):
        yield one, two


async def test_two_nodes_of_a_pair_connect_and_talk(keys: Path) -> None:
    with ports(load(keys, "gw-a"), load(keys, "gw-b")) as (one, two):
        connection = await one.connect()
        assert connection is not None
        # What is said at once may come together with the end of the handshake.
        heard = bytearray()
        sender = DeltaStream(connection.socket, lambda *_: None, lambda _: None, lambda: None, connection.tls)
        data = random.Random(2).randbytes(3_000_000)
        sender.write(b"hello ")
        sender.write(data)
        await until(lambda: two.made, "the other side")
        accepted = two.made[0]
        receiver = DeltaStream(
            accepted.socket, lambda _, got: heard.extend(got), lambda _: None, lambda: None, accepted.tls
        )
        await until(lambda: len(heard) == len(data) + 6, "everything")
        assert bytes(heard) == b"hello " + data
        assert sender.backlog == 0
        assert one.reasons == two.reasons == []
        sender.close()
        receiver.close()


@pytest.mark.parametrize(
    "said",
    [
        b"\x00\x00\x00\x05\x91hell",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 300,
        b"\x16\x03\x01\x40\x00" + bytes(20_000),
    ],
)
async def test_bytes_that_are_no_handshake_are_counted_and_closed(keys: Path, said: bytes) -> None:
    with ports(load(keys, "gw-a"), load(keys, "gw-b")) as (one, two):
        two.port.close()
        stranger = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        with stranger:
            stranger.bind((two.here, 0))
            await asyncio.get_running_loop().sock_connect(stranger, (one.here, PORT))
            stranger.send(said)
            await until(lambda: one.port.counters["rejected_unauthenticated"] == 1, "it is counted")
            with contextlib.suppress(ConnectionError):
                while await asyncio.get_running_loop().sock_recv(stranger, 65_536):
                    pass  # the alert that says why
        assert one.made == []
        assert len(one.reasons) == 1


async def test_a_handshake_that_is_never_finished_ends_with_its_time(keys: Path) -> None:
    with ports(load(keys, "gw-a"), load(keys, "gw-b")) as (one, two):
        two.port.close()
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as slow:
            slow.bind((two.here, 0))
            await asyncio.get_running_loop().sock_connect(slow, (one.here, PORT))
            slow.send(b"\x16\x03")
            assert await is_closed(slow)
        await until(lambda: one.port.counters["handshakes_unfinished"] == 1, "it is counted")
        assert one.made == []


async def test_unfinished_handshakes_do_not_keep_the_peer_out(keys: Path) -> None:
    with ports(load(keys, "gw-a"), load(keys, "gw-b")) as (one, two), contextlib.ExitStack() as held:
        for _ in range(30):
            slow = held.enter_context(
                socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            )
            slow.bind((two.here, 0))
            await asyncio.get_running_loop().sock_connect(slow, (one.here, PORT))
            slow.send(b"\x16\x03")
        assert await two.connect() is not None
        await until(lambda: one.made, "the peer")


async def test_the_node_that_is_not_taken_hears_why(keys: Path, others: Path) -> None:
    """The authority that one side knows is another: both say so, and neither takes the connection."""
    with ports(load(keys, "gw-a"), load(others, "gw-b")) as (one, two):
        assert await one.connect() is None
        await until(lambda: two.port.counters["refused_by_peer"] == 1, "the alert")
        assert one.port.counters["rejected_unauthenticated"] == 1
        assert "refuses our certificate" in two.reasons[0]
        assert two.made == []


async def test_a_node_without_keys_and_one_with_them_do_not_talk(keys: Path) -> None:
    with ports(load(keys, "gw-a"), None) as (one, two):
        one.port.send_datagram(b"beat")
        two.port.send_datagram(b"beat")
        await until(lambda: one.port.counters["rejected_unauthenticated"] == 1, "the plain heartbeat")
        assert one.datagrams == []


async def test_heartbeats_that_are_not_the_peers_are_dropped_unparsed(keys: Path, others: Path) -> None:
    here, there = loopback_addresses(2)
    seen: list[bytes] = []
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as tap,
        contextlib.closing(Port(here, there, load(keys, "gw-a"))) as one,
    ):
        tap.bind((there, PORT))
        tap.settimeout(5)
        one.port.send_datagram(b"ours")
        seen.append(tap.recv(600))
        assert seen[0][16:] == b"ours"
        tap.sendto(seen[0], (here, PORT))  # reflected
        for foreign in (b"", b"x", b"ours", bytes(528), bytes(9000)):
            tap.sendto(foreign, (here, PORT))
        await until(lambda: one.port.counters["rejected_unauthenticated"] == 6, "all of them")
        assert one.datagrams == []
    with ports(load(keys, "gw-a"), load(others, "gw-b")) as (one, two):
        two.port.send_datagram(b"of another pair")
        await until(lambda: one.port.counters["rejected_unauthenticated"] == 1, "another secret")
    with ports(load(keys, "gw-a"), load(keys, "gw-b")) as (one, two):
        two.port.send_datagram(bytes(512))
        await until(lambda: one.datagrams == [bytes(512)], "the longest of the peer")


# --- the files -----------------------------------------------------------------------------------------------


def test_what_keygen_makes_is_readable_by_its_owner_only(keys: Path) -> None:
    files = [path for path in keys.rglob("*") if path.is_file()]
    assert len(files) == 8
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in keys.iterdir()} == {0o700}
    assert not any(b"PRIVATE" in path.read_bytes() for path in files if path.name != PRIVATE_KEY)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda d: (d / SECRET).unlink(), "pair.secret: No such file"),
        (lambda d: (d / PRIVATE_KEY).chmod(0o640), "node.key: mode 0640 lets others in; chmod 600"),
        (lambda d: (d / SECRET).chmod(0o604), "pair.secret: mode 0604 lets others in"),
        (lambda d: (d / AUTHORITY).chmod(0o622), "ca.crt: mode 0622 lets others write"),
        (lambda d: (d / SECRET).write_text("secret = 7"), "is no secret that `hasyncd keygen` made"),
        (lambda d: (d / CERTIFICATE).write_text("none"), "is none"),
        (
            lambda d: shutil.copy(d.parent / "gw-b" / PRIVATE_KEY, d / PRIVATE_KEY),
            "node.key and node.crt do not fit",
        ),
        (lambda d: shutil.copy(d.parent / "gw-b" / CERTIFICATE, d / CERTIFICATE), "is of gw-b; this is gw-a"),
        (
            lambda d: make_pair_files(d.parent / "x", PAIR)
            or shutil.copy(d.parent / "x" / "gw-a" / AUTHORITY, d / AUTHORITY),
            "is not signed by ca.crt beside it",
        ),
        (lambda d: make_pair_files(d.parent, PAIR, days=-1, force=True), "has ended on"),
        (lambda d: make_pair_files(d.parent, ("gw-a", "gw-c"), force=True), None),
        (lambda d: shutil.copy(d.parent / "gw-b" / SECRET, d / SECRET), None),
    ],
)  # fmt: skip
def test_keys_that_cannot_be_used_say_why(tmp_path: Path, harm: object, message: str | None) -> None:
    make_pair_files(tmp_path, PAIR)
    with contextlib.suppress(FileExistsError):
        harm(tmp_path / "gw-a")  # type: ignore[operator]
    if message is None:
        load(tmp_path, "gw-a")
        return
    with pytest.raises(Exception, match=message.replace(".", r"\.")) as raised:
        load(tmp_path, "gw-a")
    assert type(raised.value).__name__ == "PairKeysError"


def test_the_keys_of_another_node_are_refused(keys: Path) -> None:
    with pytest.raises(Exception, match="is of the pair gw-a and gw-b; this is gw-c"):
        load_pair_keys(keys / "gw-a", "gw-c")


def test_a_peer_that_refuses_us_is_told_from_one_that_we_refuse(keys: Path, others: Path) -> None:
    one = TlsSession(load(keys, "gw-a"), accepted=False)
    two = TlsSession(load(others, "gw-b"), accepted=True)
    one.shake(b"")
    two.shake(one.outgoing())
    with pytest.raises(Untrusted):
        one.shake(two.outgoing())
    with pytest.raises(PeerRefused, match="unknown ca"):
        two.shake(one.outgoing())


# --- the key log ---------------------------------------------------------------------------------------------


def test_the_key_log_is_its_owners_alone_and_holds_the_secrets_of_each_stream(
    keys: Path, tmp_path: Path
) -> None:
    log = tmp_path / "secrets"
    log.touch(0o644)
    meet(load_pair_keys(keys / "gw-a", "gw-a", log), load(keys, "gw-b"))
    meet(load(keys, "gw-b"), load_pair_keys(keys / "gw-a", "gw-a", log))
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    lines = [line.split() for line in log.read_text().splitlines() if not line.startswith("#")]
    labels = ("CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0")
    assert all([line[0] for line in lines].count(label) == 2 for label in labels), "one of each a stream"


@pytest.mark.parametrize("kind", ["symlink", "directory", "fifo", "nowhere"])
def test_a_key_log_that_would_be_elsewhere_is_refused(keys: Path, tmp_path: Path, kind: str) -> None:
    log = tmp_path / "secrets"
    match kind:
        case "symlink":
            log.symlink_to(tmp_path / "other")
        case "directory":
            log.mkdir()
        case "fifo":
            os.mkfifo(log)
        case "nowhere":
            log = log / "below"
    with pytest.raises(PairKeysError, match=r"peer.key_log: .*secrets"):
        load_pair_keys(keys / "gw-a", "gw-a", log)


def test_without_a_key_log_nothing_is_written(
    keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where the environment asks for it: only the configuration opens the stream."""
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "secrets"))
    meet(load(keys, "gw-a"), load(keys, "gw-b"))
    assert list(tmp_path.iterdir()) == []
