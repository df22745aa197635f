"""The witness' client against a real etcd, and against things at its port that are none."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasyncd.config_witness import Witness
from hasyncd.core.register import Answer, Kind, Outcome, Register, Request
from hasyncd.runtime.witness import (
    EtcdWitness,
    Lost,
    decode_range,
    decode_register,
    decode_txn,
    encode_register,
)
from tests.runtime.etcd import Etcd, free_port

KEY = "/hasyncd/203.0.113.5"
ALONE_A = Register("gw-a", 0xA1, 7, True, 3)


def a_request(kind: Kind = Kind.CLAIM, node: str = "gw-a", **fields: object) -> Request:
    boot = {"gw-a": 0xA1, "gw-b": 0xB1}[node]
    return Request(**{"kind": kind, "node": node, "boot_id": boot, "number": 1, "generation": 1} | fields)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def member() -> Iterator[Etcd]:
    etcd = Etcd()
    try:
        etcd.start()
        etcd.wait_healthy()
        yield etcd
    finally:
        etcd.close()


@pytest.fixture
def etcd(member: Etcd) -> Etcd:
    """Running, and nothing in it."""
    member.kill()
    member.start()
    member.wait_healthy()
    return member


@asynccontextmanager
async def client(*endpoints: str, key: str = KEY) -> AsyncIterator[EtcdWitness]:
    witness = EtcdWitness(Witness(kind="etcd", endpoints=endpoints), key)
    try:
        yield witness
    finally:
        await witness.close()


async def ask(witness: EtcdWitness, request: Request) -> Answer:
    heard: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    witness.ask(request, lambda number, answer: heard.set_result(answer))
    return await heard


# --- a real etcd -------------------------------------------------------------------------------------


async def test_what_is_written_is_what_the_other_node_reads(etcd: Etcd) -> None:
    key = f"{KEY}-reads"
    async with client(etcd.endpoint, key=key) as a, client(etcd.endpoint, key=key) as b:
        assert await ask(b, a_request(Kind.LOOK, "gw-b")) == Answer(Outcome.GRANTED, None)
        written = Register("gw-a", 0xA1, 4, True, 9)
        assert await ask(a, a_request(generation=4, number=9)) == Answer(Outcome.GRANTED, written)
        assert await ask(b, a_request(Kind.LOOK, "gw-b")) == Answer(Outcome.GRANTED, written)
        refused = await ask(b, a_request(node="gw-b", generation=5, promotes=True))
        assert refused == Answer(Outcome.REFUSED, written)


async def test_of_two_claims_at_once_one_is_granted(etcd: Etcd) -> None:
    """What both remember of the register is the same: the compare-and-swap decides."""
    key = f"{KEY}-race"
    async with client(etcd.endpoint, key=key) as a, client(etcd.endpoint, key=key) as b:
        for generation in range(1, 60, 2):
            note = await ask(a, a_request(Kind.NOTE, generation=generation, number=generation))
            assert await ask(b, a_request(Kind.LOOK, "gw-b")) == note
            answers = await asyncio.gather(
                ask(a, a_request(generation=generation, number=generation + 1)),
                ask(b, a_request(node="gw-b", generation=generation + 1, promotes=True, number=generation)),
            )
            assert sorted(answer.outcome.value for answer in answers) == ["granted", "refused"]
            released = a_request(Kind.RELEASE, "gw-b", generation=generation, number=generation + 100)
            await ask(b, released)


async def test_a_register_outlives_its_server(etcd: Etcd) -> None:
    key = f"{KEY}-outlives"
    async with client(etcd.endpoint, key=key) as a:
        await ask(a, a_request(generation=3))
        etcd.kill()
        lost = await ask(a, a_request(Kind.LOOK))
        assert (lost.outcome, lost.detail.split(": ")[1]) == (Outcome.UNREACHABLE, "Connection refused")
        etcd.start()
        etcd.wait_healthy()
        assert (await ask(a, a_request(Kind.LOOK))).register == Register("gw-a", 0xA1, 3, True, 1)


async def test_an_endpoint_that_hangs_is_joined_by_the_next(etcd: Etcd) -> None:
    """A claim that is sent twice is done once, and both copies find it done."""
    key = f"{KEY}-hangs"
    with socket.create_server(("127.0.0.1", 0)) as hung:  # its kernel takes connections, nobody reads them
        hanging, dead = (f"http://127.0.0.1:{port}" for port in (hung.getsockname()[1], free_port()))
        async with client(hanging, dead, etcd.endpoint, key=key) as a:
            claim = await ask(a, a_request(generation=5, number=2))
            assert claim == Answer(Outcome.GRANTED, Register("gw-a", 0xA1, 5, True, 2))
            assert await ask(a, a_request(generation=5, number=2)) == claim, "already ours"


async def test_a_stopped_server_is_no_answer_and_its_late_write_does_no_harm(etcd: Etcd) -> None:
    key = f"{KEY}-late"
    async with client(etcd.endpoint, key=key) as a, client(etcd.endpoint, key=key) as b:
        await ask(a, a_request(Kind.NOTE, generation=1))
        etcd.signal(signal.SIGSTOP)
        try:
            late = await ask(a, a_request(generation=1, number=2))
            assert late.outcome is Outcome.UNREACHABLE
        finally:
            etcd.signal(signal.SIGCONT)
        outcomes = [
            (await ask(b, a_request(node="gw-b", generation=2, promotes=True))).outcome,
            (await ask(a, a_request(generation=1, number=3))).outcome,
        ]
        # Its claim landed, or the other one did: never both.
        assert outcomes in ([Outcome.REFUSED, Outcome.GRANTED], [Outcome.GRANTED, Outcome.REFUSED])


async def test_a_newer_request_replaces_the_one_before(etcd: Etcd) -> None:
    heard: list[int] = []
    async with client(etcd.endpoint, key=f"{KEY}-newer") as a:
        a.ask(a_request(generation=1, number=1), lambda number, answer: heard.append(number))
        answer = await ask(a, a_request(generation=1, number=2))
        assert (answer.outcome, heard) == (Outcome.GRANTED, [])


async def test_a_claim_is_one_trip_once_the_register_is_known(etcd: Etcd) -> None:
    async with client(etcd.endpoint, key=f"{KEY}-trip") as a:
        await ask(a, a_request(Kind.NOTE))
        took = []
        for number in range(2, 22):
            began = time.perf_counter()
            assert (await ask(a, a_request(number=number))).outcome is Outcome.GRANTED
            took.append(time.perf_counter() - began)
        print(f"claim: median {sorted(took)[10] * 1000:.1f} ms, worst {max(took) * 1000:.1f} ms")


# --- what is no etcd ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]", "the answer is no JSON object"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", "the answer is no JSON"),
        (b"HTTP/1.1 503 Busy\r\ncontent-length: 2\r\n\r\n{}", "HTTP status 503"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\n" + b"x" * 99999, "the answer is too long"),
        (
            b"HTTP/1.1 302 Found\r\nlocation: http://192.0.2.1/\r\ncontent-length: 0\r\n\r\n",
            "HTTP status 302",
        ),
        (b"SSH-2.0-OpenSSH_9.2\r\n", ""),
        (b"", ""),
    ],
)
async def test_whatever_answers_there_is_a_lost_witness(answer: bytes, reason: str) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with client(f"http://127.0.0.1:{port}") as witness:
            lost = await ask(witness, a_request())
            assert lost.outcome is Outcome.UNREACHABLE
            assert reason in lost.detail
            assert lost.detail.startswith(f"http://127.0.0.1:{port}: ")


@given(st.binary(max_size=600) | st.dictionaries(st.text(max_size=12), st.integers() | st.text(), max_size=8))
def test_any_value_is_a_register_or_a_reason(value: bytes | dict[str, object]) -> None:
    with contextlib.suppress(Lost):
        register = decode_register(value if isinstance(value, bytes) else json.dumps(value).encode())
        assert decode_register(encode_register(register)) == register


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2}, {"alone": 1}, {"boot_id": "0"}, {"boot_id": "g" * 16}, {"node": "a/b"}, {"node": None},
        {"generation": -1}, {"generation": 1 << 63}, {"generation": True}, {"generation": 1.5}, {"number": "3"},
    ],
)  # fmt: skip
def test_a_register_has_every_field_in_its_range(change: dict[str, object]) -> None:
    text = encode_register(ALONE_A)
    assert decode_register(text) == ALONE_A
    with pytest.raises(Lost):
        decode_register(json.dumps(json.loads(text) | change).encode())


def test_a_register_is_written_as_the_page_says() -> None:
    assert encode_register(ALONE_A) == (
        b'{"alone":true,"boot_id":"00000000000000a1","generation":7,"node":"gw-a","number":3,"version":1}'
    )


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["kvs", "value", "mod_revision", "responses", "response_range", "succeeded", "header",
                         "revision"]), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["kvs", "responses", "succeeded", "header"]), VALUES))
def test_any_answer_is_an_entry_or_a_reason(answer: dict[str, object]) -> None:
    with contextlib.suppress(Lost):
        assert decode_range(answer).revision >= 0
    with contextlib.suppress(Lost):
        assert decode_txn(answer, ALONE_A)[1].revision >= 0


def test_an_answer_with_a_register_is_taken_apart() -> None:
    value = base64.b64encode(encode_register(ALONE_A)).decode()
    found = {"kvs": [{"mod_revision": "12", "value": value}], "count": "1"}
    assert decode_range(found) == (12, ALONE_A)
    assert decode_range({}) == (0, None)
    assert decode_txn({"responses": [{"response_range": found}]}, ALONE_A) == (False, (12, ALONE_A))
